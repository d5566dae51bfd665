"""What only a search by `nnictl create` needs: tuner, trials, and the care for both."""
