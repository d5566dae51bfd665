"""`python -m detnas_nni.cli`, as torchrun and NNI start it if `detnas` is not on the path."""

from detnas_nni.cli import main

raise SystemExit(main())
