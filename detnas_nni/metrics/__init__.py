"""The metrics of a net: COCO's box AP, Pascal VOC's mAP, top-1."""

from detnas_nni.metrics.boxes import GroundTruth
from detnas_nni.metrics.coco import coco_box_ap, official_coco_box_ap, top1
from detnas_nni.metrics.voc import voc_map

__all__ = ["GroundTruth", "coco_box_ap", "official_coco_box_ap", "top1", "voc_map"]
