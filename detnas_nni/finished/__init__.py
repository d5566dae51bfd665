"""The finished net, standalone: rebuilt from its file, exported, and used on images.

`detnas export --weights`, `detnas predict`, and `load_detector`, `load_backbone` of the Python API.
"""
