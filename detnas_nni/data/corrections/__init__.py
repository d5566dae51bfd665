"""What labelling tools write, and how it is read: a module for each kind of thing that is corrected.

Readers of a form (`data.coco`, `data.voc`) bring entries into one shape; what is corrected in them is
here, once:

- `values`: numbers and ids of other types, and what an annotation says beside its box;
- `categories`: roots, names that occur twice, the classes of several splits;
- `places`: names of image files;
- `units`: shares of the image, corners in place of sides, rotated boxes;
- `orientation`: photos that EXIF turns, sizes that are not stated.

docs/data.md has the rules as a table.
"""
