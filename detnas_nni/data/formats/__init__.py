"""Data sets in formats other than COCO and VOC, as COCO's JSON: `detnas data convert`, `detnas init PATH`.

`recognise` says which format a folder is in; a module a format reads it into `dataset.Dataset`, by the files
of `pictures` and the documents of `documents`; `convert` writes that as COCO, and everything goes on from
there. What is wrong with boxes (corners, sizes, what lies outside of a picture) is for the COCO reader to
say.

Why none of these readers is a library's: labelformat 0.1.17 and globox 2.9.0 were tried, and of what people
have both lose boxes without a word or end in an error that names no file.

- YOLO: labelformat leaves out pictures without a label file (ultralytics' backgrounds), polygons and corners
  of YOLO-seg and YOLO-OBB, and ids without a class, each with a line in a log; it needs a data.yaml, a folder
  called `images`, and a list of names without gaps. globox takes one suffix of pictures, ends at the first
  label without a picture, has ids in place of names, and takes a sixth column for the box's width.
- CVAT: labelformat and globox read `box` alone, without its `rotation`; polygons, masks, ellipses and tracks
  of videos are gone, and globox expands entities.
- labelme: globox refuses a data set for one shape without a type, and leaves out circles and masks;
  labelformat does not read it.
- VIA: globox reads rectangles alone, and no file of VIA 1; labelformat does not read it.
- KITTI: labelformat wants the names of all classes beforehand (DontCare among them, as a class like others),
  and loses one column of every line with a score; globox does not read it.
- Open Images: globox looks for pictures without a suffix, which there are none of, and has IsGroupOf as an
  object like others; labelformat does not read it. Neither reads LVIS or Label Studio's own JSON.

The tests let globox write what these readers read.
"""
