"""Data sets in formats other than COCO and VOC, as COCO's JSON: `detnas data convert`, `detnas init PATH`.

`recognise` says which format a folder is in; one module per format reads it into `dataset.Dataset`, with the
files of `pictures` and the documents of `documents`; `convert` writes that as COCO, and everything continues
from there. Mistakes in boxes (corners, sizes, parts outside a picture) are left to the COCO reader.

Why no library is used: labelformat 0.1.17 and globox 2.9.0 were tried on small exports with what real exports
contain. Both lose boxes silently, or end with an error that names no file:

- YOLO: labelformat leaves out pictures without a label file (ultralytics' backgrounds), all lines of YOLO-seg
  and YOLO-OBB and ids without a class, needs a data.yaml, and fails if the names' ids have a gap. globox
  reads only pictures of one suffix, fails at a label file of another, refuses polygons, and uses ids as
  names.
- CVAT: both read only `box`, without its `rotation`; polygons, masks, ellipses and the tracks of videos are
  lost. globox expands entities.
- labelme: globox refuses a data set because of one shape without a type, as older versions write it, and
  drops circles and masks. labelformat does not read it.
- VIA: globox reads only rectangles, and fails at a file of VIA 1. labelformat does not read it.
- KITTI: labelformat has to be told the names of all classes, takes DontCare as one of them, and fails at a
  line with a score and at a picture without a label file. globox does not read it.
- Open Images: globox looks for pictures without a suffix, which do not exist, and takes a group for one
  object. labelformat does not read it. Neither reads LVIS or Label Studio's own JSON.

In the tests globox writes what these readers read.
"""
