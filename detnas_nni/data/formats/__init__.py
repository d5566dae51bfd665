"""Data sets in formats other than COCO and VOC, as COCO's JSON: `detnas data convert`, `detnas init PATH`.

`recognise` says which format a folder is in; a module a format reads it into `dataset.Dataset`, by the files
of `pictures` and the documents of `documents`; `convert` writes that as COCO, and everything goes on from
there. What is wrong with boxes (corners, sizes, what lies outside of a picture) is for the COCO reader to
say.

Why none of these readers is a library's: labelformat 0.1.17 and globox 2.9.0 were tried on small exports with
what people's exports have in them. Both lose boxes without a word, or end in an error that names no file:

- YOLO: labelformat leaves out pictures without a label file (ultralytics' backgrounds), all lines of YOLO-seg
  and YOLO-OBB and ids without a class, needs a data.yaml, and ends where the names' ids have a gap. globox
  reads pictures of one suffix alone, ends at a label file of another, refuses polygons, and has ids for
  names.
- CVAT: both read `box` alone, and without its `rotation`; polygons, masks, ellipses and the tracks of videos
  are gone. globox expands entities.
- labelme: globox refuses a data set for one shape without a type, as older versions write it, and leaves out
  circles and masks. labelformat does not read it.
- VIA: globox reads rectangles alone, and ends at a file of VIA 1. labelformat does not read it.
- KITTI: labelformat has to be told the names of all classes, has DontCare as one of them, and ends at a line
  with a score and at a picture without a label file. globox does not read it.
- Open Images: globox looks for pictures without a suffix, which there are none of, and takes a group for one
  object. labelformat does not read it. Neither reads LVIS or Label Studio's own JSON.

The tests let globox write what these readers read.
"""
