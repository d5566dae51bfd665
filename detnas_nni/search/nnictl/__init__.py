"""What only a search by `nnictl create` needs: tuner, trials, and what keeps both sound."""
