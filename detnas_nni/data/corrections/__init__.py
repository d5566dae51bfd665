"""How deviations of labelling tools are read: a module for each kind of correction.

The formats' readers (`data.coco`, `data.voc`) collect entries; corrections for both are here:

- `values`: numbers and ids of other types, and an annotation's marks besides its box;
- `segments`: the boxes around polygons and masks;
- `categories`: roots, names that occur twice, the classes of several splits;
- `places`: names of image files;
- `units`: shares of the image, corners instead of sides, rotated boxes;
- `orientation`: photos with an EXIF orientation, sizes that are not stated.

docs/data.md has the rules as a table.
"""
