"""One experiment's config, typed; `reading.py` reads it from YAML.

Every key is a field below with its meaning, unit, range, default and source. Paths in the file are relative
to the file itself (as NNI reads its own YAML), so that a step gives the same result from any working
directory; `${NAME}` in a path is taken from the environment. Numbers marked [R] are the authors'
(megvii-model/DetNAS), those marked [P] the paper's (Chen et al., NeurIPS 2019).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from detnas_nni.config.data_sections import Data, DetectionData
from detnas_nni.config.own_parts import KnownOrOwn
from detnas_nni.config.section import (
    ConfigPath,
    Fraction,
    Name,
    OpsText,
    Positive,
    PositiveFloat,
    Section,
)
from detnas_nni.errors import ConfigError


class Space(Section):
    """What is searched."""

    name: str = Field(
        "small",
        description="tiny, small, large, 3.8g; lite0, lite1, lite2, around EfficientNet-Lite; "
        "package.module:factory; or a hand-crafted net to compare with, which has nothing to choose: "
        "resnet50, resnet101",
    )
    options: dict[str, Any] = Field({}, description="keyword arguments of the trunk, such as shuffle")


class Detector(Section):
    """The detector around the trunk, from torchvision. [M] is maskrcnn-benchmark, which [R] builds on."""

    name: Annotated[str, AfterValidator(KnownOrOwn(("faster_rcnn", "retinanet")))] = Field(
        "faster_rcnn", description="the meta-architecture"
    )
    min_size: Positive = Field(800, description="shorter image side after resizing, in pixels [R]")
    max_size: Positive = Field(1333, description="limit of the longer side, in pixels [R]")
    fpn_channels: Positive = Field(256, description="channels of every pyramid level [R]")
    anchor_sizes: tuple[Positive, ...] = Field(
        (32, 64, 128, 256, 512),
        description="anchor side of each pyramid level, finest first, in pixels; always five, of which "
        "a pyramid with fewer levels uses the first [R]",
    )
    anchor_ratios: tuple[PositiveFloat, ...] = Field(
        (0.5, 1.0, 2.0), min_length=1, description="height over width of the anchors [R]"
    )
    scales_per_octave: Positive = Field(
        3, description="RetinaNet: anchor sizes per level, a factor 2^(1/n) apart; Faster R-CNN has one [R]"
    )
    fg_iou: Fraction = Field(0.5, description="RetinaNet: IoU from which an anchor is an object [R]")
    bg_iou: Fraction = Field(0.4, description="RetinaNet: IoU below which it is background [R]")
    candidates_per_level: Positive = Field(
        1000, description="RetinaNet: boxes per level that go into the final NMS [M]"
    )
    rpn_fg_iou: Fraction = Field(0.7, description="RPN: IoU from which an anchor is an object [M]")
    rpn_bg_iou: Fraction = Field(0.3, description="RPN: IoU below which it is background [M]")
    rpn_samples: Positive = Field(256, description="anchors per image that train the RPN [M]")
    rpn_positives: Fraction = Field(0.5, description="largest share of objects among them [M]")
    rpn_nms: Fraction = Field(0.7, description="IoU of the proposals' NMS [M]")
    rpn_proposals_train: Positive = Field(2000, description="Faster R-CNN: proposals kept in training [R]")
    rpn_proposals_test: Positive = Field(1000, description="Faster R-CNN: proposals kept in evaluation [R]")
    roi_size: Positive = Field(7, description="side of a pooled region, in cells [R]")
    roi_sampling: Positive = Field(2, description="sampling points per cell and direction [R]")
    box_fg_iou: Fraction = Field(0.5, description="IoU from which a proposal is an object [M]")
    box_bg_iou: Fraction = Field(0.5, description="IoU below which it is background [M]")
    box_samples: Positive = Field(512, description="proposals per image that train the box head [R]")
    box_positives: Fraction = Field(0.25, description="largest share of objects among them [M]")
    box_head_convs: int = Field(4, ge=0, description="3x3 convolutions of the box head [R: 4conv1fc]")
    box_head_channels: Positive = Field(256, description="channels of those convolutions [R]")
    box_head_width: Positive = Field(1024, description="width of the box head's linear layer [R]")
    score_threshold: Fraction = Field(0.05, description="detections below this score are dropped [M]")
    nms: Fraction = Field(0.5, description="IoU of the detections' NMS [M; there 0.4 for RetinaNet]")
    detections_per_image: Positive = Field(100, description="detections kept per image, as COCO counts them")

    @model_validator(mode="after")
    def _sizes_fit(self) -> Detector:
        if self.max_size < self.min_size:
            raise ValueError(f"max_size {self.max_size} is below min_size {self.min_size}")
        if len(self.anchor_sizes) != 5:
            raise ValueError(
                f"anchor_sizes needs one size for each of the 5 pyramid levels, got {len(self.anchor_sizes)}"
            )
        for low, high in (("bg_iou", "fg_iou"), ("rpn_bg_iou", "rpn_fg_iou"), ("box_bg_iou", "box_fg_iou")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} {getattr(self, low)} is above {high} {getattr(self, high)}")
        return self


# How often a training writes; its result does not depend on it.
_WRITING = ("log_every", "checkpoint_every", "keep_checkpoints")

# Keys added after the first trainings, and the values that those used. A training with the same values is the
# same training, so that older folders and checkpoints can still be resumed.
_LATER = {"sampling": "uniform", "average_last": None, "freeze": 0, "rescale": False, "around": None}

Sampling = Literal["uniform", "balanced", "fair"]


class Training(Section):
    """What all trainings have in common."""

    steps: Positive = Field(description="iterations")
    batch_size: Positive = Field(description="images per iteration, over all devices")
    lr: float = Field(gt=0, description="base learning rate of SGD")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum [R]")
    bn_momentum: float = Field(
        0.1, gt=0, le=1, description="share of a new batch in BN's running statistics [R: torch's default]"
    )
    checkpoint_every: Positive = Field(1000, description="iterations between two checkpoints")
    keep_checkpoints: Positive = Field(
        2, description="newest checkpoints that are kept; if one is damaged, the one before is used"
    )
    log_every: Positive = Field(50, description="iterations between two log lines")
    max_grad_norm: float | None = Field(None, gt=0, description="clip the gradient's norm; not in the paper")
    sampling: Sampling = Field(
        "uniform",
        description="how a supernet's paths are drawn: `uniform`, each independently [P]; `balanced`, "
        "every candidate of a block once in every k steps, k being the number of its candidates; `fair`, the "
        "same paths, but one update of the weights for the summed gradients of k steps (arXiv 1907.01845)",
    )
    average_last: Positive | None = Field(
        None,
        description="a supernet's weights are the average over this many last iterations; by default "
        "they are the last iteration's [R]",
    )

    def identity(self) -> dict[str, Any]:
        """The values that a training's result depends on: all except how often it writes."""
        values = self.model_dump(mode="json", exclude=set(_WRITING))
        return {key: value for key, value in values.items() if key not in _LATER or value != _LATER[key]}


class Pretrain(Training):
    """Training of a classifier, supernet or single net. The learning rate falls linearly to 0."""

    steps: Positive = Field(300_000, description="iterations [R]")
    batch_size: Positive = Field(1024, description="images per iteration, over all devices [R]")
    lr: float = Field(0.5, gt=0, description="base learning rate of SGD [R]")
    warmup_steps: int = Field(0, ge=0, description="iterations of linear warm-up")
    weight_decay: float = Field(4e-5, ge=0, description="only on weights with more than one dimension [R]")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="of the cross-entropy [R]")
    dropout: float = Field(0.2, ge=0, lt=1, description="Dropout2d before the classifier's pooling [R]")
    color_jitter: float = Field(0.4, ge=0, description="brightness, contrast and saturation [R]")
    crop_min_scale: float = Field(0.08, gt=0, le=1, description="lowest area share of RandomResizedCrop")
    macs_bins: tuple[tuple[int, int], ...] | None = Field(
        None,
        description="ranges [low, high) of MACs, classifier convention; each step draws a range, then a path "
        "uniformly within it; by default paths are uniform over the space",
    )

    @model_validator(mode="after")
    def _bins_are_ranges(self) -> Pretrain:
        for low, high in self.macs_bins or ():
            if not 0 <= low < high:
                raise ValueError(f"macs_bins: [{low}, {high}) is not a range")
        if self.macs_bins and self.sampling != "uniform":
            raise ValueError(
                f"sampling is {self.sampling}, which draws every candidate equally often, but macs_bins "
                "draws paths by their cost; set macs_bins to null, or sampling to uniform"
            )
        return self


class Finetune(Training):
    """Training of a detector, supernet or single net. The learning rate falls in steps after a warm-up."""

    steps: Positive = Field(90_000, description="iterations [R]")
    batch_size: Positive = Field(16, description="images per iteration, over all devices [R]")
    lr: float = Field(0.02, gt=0, description="base learning rate: 0.02 with FPN, 0.01 with RetinaNet [R]")
    init: Literal["pretrain", "imagenet", "scratch"] = Field(
        "pretrain",
        description="where the trunk's weights come from: the supernet's pre-training; published ImageNet "
        "weights of one net, from which every candidate is derived (spaces lite0, lite1, lite2); or nowhere",
    )
    weights: ConfigPath | None = Field(
        None,
        description="a classification supernet to start from instead of this experiment's own pre-training, "
        "such as one that `detnas import-reference` wrote; with `init: imagenet` the published state dict, "
        "instead of the installed package's",
    )
    freeze: int = Field(
        0,
        ge=0,
        description="keep the stem and this many first stages of the trunk as they start, including BN "
        "statistics: 1 to 4 in the built-in spaces, 0 for none; for few images and a trained start",
    )
    rescale: bool = Field(
        False,
        description="give every convolution of the trunk that is directly before a BN in an `nn.Sequential` "
        "the norm √(filters / fan_in) before the first step: the net computes the same, but SGD changes all "
        "of them at one pace, whatever scale they were drawn with or a pre-training has left them at; for "
        "short trainings (docs/own-data.md) [R: no]",
    )
    around: OpsText | None = Field(
        None,
        description="the ops of a net that is known to be good, such as the published one that the weights "
        "were trained as: a step draws its candidate of a block with a chance of one half, otherwise any; "
        "by default paths are uniform over the space [P]",
    )
    milestones: tuple[Positive, ...] = Field((60_000, 80_000), description="steps at which lr drops [R]")
    gamma: float = Field(0.1, gt=0, le=1, description="the factor at a milestone [R]")
    warmup_steps: int = Field(500, ge=0, description="iterations of linear warm-up [R]")
    warmup_factor: float = Field(1 / 3, gt=0, le=1, description="share of lr at which the warm-up starts [R]")
    weight_decay: float = Field(1e-4, ge=0, description="on all parameters except biases [R]")
    bias_lr_factor: float = Field(2.0, gt=0, description="learning rate of biases relative to weights' [R]")
    bias_weight_decay: float = Field(0.0, ge=0, description="on biases [R]")

    @model_validator(mode="after")
    def _one_start(self) -> Finetune:
        if self.weights is not None and self.init == "scratch":
            raise ValueError("init is scratch, but weights names a checkpoint to start from; leave one out")
        return self

    @model_validator(mode="after")
    def _one_way_to_draw(self) -> Finetune:
        if self.around is not None and self.sampling != "uniform":
            raise ValueError(
                f"sampling is {self.sampling}, which draws every candidate equally often, but around names "
                "candidates to draw more often; set around to null, or sampling to uniform"
            )
        return self


class EvaluationSettings(Section):
    """How one candidate is measured."""

    task: Literal["detection", "classification"] = Field(
        "detection",
        description="fitness: box AP on the search split, or top-1 on the held-out images (ClsNAS)",
    )
    metric: Literal["coco", "voc07", "voc"] = Field(
        "coco",
        description="for detection: COCO's AP, VOC mAP@0.5 with 11 points (VOC2007), or over all points "
        "(VOC2010 and later)",
    )
    finetune_iterations: int = Field(
        0, ge=0, description="training steps of the inherited net, before it is measured [R: none]"
    )
    finetune_lr: float = Field(0.001, gt=0, description="their constant learning rate")
    calibration_images: Positive = Field(
        4000, description="training images for new BN statistics [R: 500 iterations of 8]"
    )
    calibration_batch_size: Positive = Field(8, description="images per calibration batch [R]")
    calibration_momentum: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of a new batch in the running statistics [R: 0.1]; by default all batches count "
        "equally, which depends less on the last ones",
    )
    batch_size: Positive = Field(8, description="images per evaluation batch")
    intermediate_results: Positive = Field(
        4, description="how often AP is reported on a growing part of the split, the last time on all of it"
    )


Runtime = Literal["torch", "onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt"]


class Constraint(Section):
    """Limits on a candidate, in the backbone convention (no last conv, FC, BN, bias in MACs)."""

    max_macs: int | None = Field(None, ge=1, description="multiply-adds for one image")
    max_params: int | None = Field(None, ge=1, description="parameters")
    max_latency_ms: float | None = Field(
        None, gt=0, le=1e9, description="milliseconds of a forward pass, as `latency_table` predicts them"
    )
    latency_table: ConfigPath | None = Field(
        None, description="the file that `detnas latency` wrote on the target device"
    )
    latency_runtime: Runtime = Field(
        "torch",
        description="what the milliseconds and the table have to be measured with: eager torch, or "
        "onnxruntime with its CPU, CUDA or TensorRT provider",
    )
    resolution: Positive = Field(
        224, description="side of the square image that MACs are counted for, pixels"
    )

    @model_validator(mode="after")
    def _latency_is_known(self) -> Constraint:
        if self.max_latency_ms is not None and self.latency_table is None:
            raise ValueError(
                "max_latency_ms needs latency_table, a file that `detnas latency` writes for the space"
            )
        return self


STRATEGIES = ("detnas", "pareto", "regularized_evolution", "random")

Objective = Literal["macs", "params", "latency"]

COST_OF = {"macs": "macs", "params": "params", "latency": "latency_ms"}
"""The key of an objective in a journal's `cost`."""


class Search(Section):
    """Which candidates are proposed."""

    name: Name = Field("search", description="folder of this search under run_dir")
    strategy: Annotated[str, AfterValidator(KnownOrOwn(STRATEGIES))] = Field(
        "detnas",
        description="the paper's evolution, NSGA-II for the whole front of AP and cost (pareto), NNI's "
        "RegularizedEvolution, or random search",
    )
    objectives: tuple[Objective, ...] = Field(
        ("macs",),
        description="what to minimise while fitness is maximised: macs, params, latency (which needs "
        "constraint.latency_table); guides pareto, and determines the front in front.json for any search",
    )
    seed: int | None = Field(None, ge=0, description="of proposals and calibration; by default the main seed")
    population: Positive = Field(50, description="candidates per generation [P]")
    generations: Positive = Field(20, description="generations; evaluations = population x generations [P]")
    parents: Positive = Field(10, description="how many of the best so far breed (detnas) [P]")
    mutations: int = Field(20, ge=0, description="children by mutation per generation (detnas, pareto) [P]")
    crossovers: int = Field(
        20, ge=0, description="children by crossover per generation (detnas, pareto); the rest are random [P]"
    )
    mutation_probability: Fraction = Field(0.1, description="chance that a block is redrawn [P]")
    tournament: Positive = Field(10, description="candidates per tournament (regularized_evolution)")
    around: OpsText | None = Field(
        None,
        description="the ops of a net that is known to be good: what an evolution otherwise draws at random, "
        "such as its first generation, are mutations of this net, brought within the limits; by default "
        "they are random [P]; a random search ignores it",
    )
    constraint: Constraint = Field(Constraint(), description="limits on the cost")
    racing: float | None = Field(
        None,
        gt=0,
        lt=0.5,
        description="a candidate is given up after part of the search split if its chance to be among the "
        "best `parents` is less than this; by default each is measured on the whole split [P]",
    )
    retries: int = Field(
        1, ge=0, description="how often a candidate is evaluated again after a failure before it is skipped"
    )
    max_failed_share: Fraction = Field(
        0.5,
        description="the search gives up when more than this share of its candidates, of at least ten, "
        "have failed",
    )
    max_trial_seconds: float | None = Field(
        None, gt=0, description="an evaluation that takes longer counts as failed; by default no limit"
    )

    @property
    def evaluations(self) -> int:
        """Candidates evaluated in the whole search, whatever the strategy: all have one budget."""
        return self.population * self.generations

    @model_validator(mode="after")
    def _numbers_agree(self) -> Search:
        children = self.mutations + self.crossovers
        if self.strategy in ("detnas", "pareto") and children > self.population:
            raise ValueError(
                f"mutations {self.mutations} + crossovers {self.crossovers} exceed "
                f"population {self.population}"
            )
        if self.strategy == "regularized_evolution" and self.tournament > self.population:
            raise ValueError(f"tournament {self.tournament} exceeds population {self.population}")
        if self.strategy not in ("detnas", "random") and self.racing is not None:
            raise ValueError(
                "racing needs strategy detnas or random: in "
                f"{self.strategy.replace('_', ' ')} any candidate may breed"
            )
        return self

    @model_validator(mode="after")
    def _objectives_are_known(self) -> Search:
        if not self.objectives:
            raise ValueError("objectives is empty; name what to minimise: macs, params, latency")
        twice = [name for name in self.objectives if self.objectives.count(name) > 1]
        if twice:
            raise ValueError(f"objectives has {twice[0]} twice; name each once")
        if "latency" in self.objectives and self.constraint.latency_table is None:
            raise ValueError(
                "objectives has latency, which needs constraint.latency_table, a file that `detnas latency` "
                "writes for the space"
            )
        return self


class Retrain(Section):
    """The final net: the searched architecture, trained on its own and measured on the test splits."""

    init: Literal["classification", "supernet", "imagenet", "scratch"] = Field(
        "classification",
        description="where the detector starts: a classifier of the architecture, trained from scratch "
        "first [R]; the supernet's weights; its path's weights derived from published ImageNet weights "
        "(spaces lite0, lite1, lite2); or nothing",
    )
    held_out: bool = Field(
        True,
        description="also train on the images that were held out of the training splits for the search "
        "[P: searched without 5k of trainval35k, trained on all of it]",
    )
    weights: ConfigPath | None = Field(
        None,
        description="a classifier of the architecture to start from instead of training one, such as one "
        "that `detnas import-reference` wrote",
    )
    classifier_dir: ConfigPath | None = Field(
        None,
        description="where classifiers are kept, one folder per architecture, to share them between "
        "experiments; by default in run_dir",
    )
    pretrain: Pretrain | None = Field(
        None, description="what differs from `pretrain` in the classifier's training [R: nothing]"
    )
    finetune: Finetune | None = Field(
        None, description="what differs from `finetune` in the detector's training [R: nothing, 1x]"
    )

    @model_validator(mode="after")
    def _one_start(self) -> Retrain:
        if self.weights is not None and self.init != "classification":
            raise ValueError(
                f"init is {self.init}, but weights names a classifier to start from; leave one out"
            )
        return self


class Hardware(Section):
    """What it runs on."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU if there is one")
    devices: Positive = Field(
        1,
        description="GPUs (or CPU processes) of this machine that a training runs on; several machines are "
        "started with torchrun, which then sets the number",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="for a training's forward and backward passes; weights stay in fp32"
    )
    sync_batchnorm: bool = Field(
        True, description="BN statistics over all devices of a training [R]; torch has this for GPUs only"
    )
    workers: int = Field(4, ge=0, description="loader processes; 0 loads in the main process")
    keep_decoded_gb: float = Field(
        16.0,
        ge=0,
        description="images that candidates are calibrated and measured on are decoded once and kept in the "
        "search's folder until it ends, if they take at most this many GB; 0 decodes them for each candidate",
    )
    threads: int | None = Field(
        None, ge=1, description="torch's CPU threads per process; fix it for reproducible results"
    )


STEPS = ("pretrain", "finetune", "search", "sample", "retrain")
"""The steps of an experiment, each a command, in the order in which they run."""


class Reproduces(Section):
    """What an experiment reproduces of the paper, for `detnas reproduce`."""

    what: str = Field(description="in a few words")
    steps: tuple[Literal["pretrain", "finetune", "search", "sample", "retrain"], ...] = Field(
        min_length=1, description="the commands, in order"
    )
    architectures: tuple[ConfigPath, ...] = Field(
        (), description="what `retrain` trains; by default what the search or the sampling found"
    )
    samples: Positive | None = Field(None, description="random architectures that `sample` draws")
    published: dict[str, float] = Field(
        {},
        description="numbers by name: AP, VOC_mAP, top1_error in percent; with _code from the authors' code",
    )

    @model_validator(mode="after")
    def _steps_have_their_input(self) -> Reproduces:
        if sorted(self.steps, key=STEPS.index) != list(dict.fromkeys(self.steps)):
            raise ValueError(f"steps: each once, in the order {', '.join(STEPS)}")
        if ("sample" in self.steps) != (self.samples is not None):
            raise ValueError("samples is the number for the step `sample`: give both or none")
        found = {"search", "sample"} & set(self.steps)
        if "retrain" in self.steps and not found and not self.architectures:
            raise ValueError("`retrain` without a search or a sample needs `architectures`")
        return self


class Config(Section):
    """One experiment."""

    run_dir: ConfigPath = Field(description="folder that the run writes to")
    pretrain_dir: ConfigPath | None = Field(
        None, description="folder of the pre-training, to share it between experiments; by default in run_dir"
    )
    finetune_dir: ConfigPath | None = Field(None, description="folder of the fine-tuning, likewise")
    seed: int = Field(0, ge=0, description="the one seed: data order, augmentation, paths, search")
    space: Space = Field(Space(), description="what is searched")
    data: Data = Field(description="where the images are")
    detector: Detector = Field(Detector(), description="the detector around the trunk")
    pretrain: Pretrain = Field(Pretrain(), description="supernet pre-training")
    finetune: Finetune = Field(Finetune(), description="supernet fine-tuning")
    evaluation: EvaluationSettings = Field(EvaluationSettings(), description="how one candidate is measured")
    search: Search = Field(Search(), description="which candidates are proposed")
    retrain: Retrain = Field(Retrain(), description="the final net's training")
    hardware: Hardware = Field(Hardware(), description="what it runs on")
    reproduces: Reproduces | None = Field(None, description="what this reproduces of the paper")

    @model_validator(mode="after")
    def _frozen_stages_are_trained(self) -> Config:
        final = self.retrain.finetune or self.finetune
        for key, settings, init, others in (
            ("finetune", self.finetune, self.finetune.init, "imagenet or pretrain"),
            ("retrain.finetune", final, self.retrain.init, "imagenet, supernet or classification"),
        ):
            if settings.freeze and init == "scratch":
                raise ValueError(
                    f"{key}.freeze is {settings.freeze}, but {key.split('.')[0]}.init is scratch: random "
                    f"weights would stay as they are; set freeze to 0, or start from {others}"
                )
        return self

    @property
    def search_seed(self) -> int:
        return self.seed if self.search.seed is None else self.search.seed

    @property
    def search_dir(self) -> Path:
        return self.run_dir / self.search.name

    def fingerprint(self, *sections: str, data: BaseModel | None = None, **others: Any) -> str:
        """A hash of the named sections: what a step depends on, and what a resumed step must have in common.

        If only part of the data counts, `data` is that part; `others` are further values that count. How
        often a training writes does not.
        """
        trainings = {name for name in sections if isinstance(getattr(self, name), Training)}
        values = self.model_dump(mode="json", include=set(sections) - trainings)
        values.update((name, getattr(self, name).identity()) for name in trainings)
        if data is not None:
            values["data"] = data.model_dump(mode="json")
            values["max_images"] = self.data.max_images
        values.update(others)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def require(self, key: str) -> Any:
        """The optional section at a dotted key, such as `data.detection`; ConfigError if it is missing."""
        value: Any = self
        for part in key.split("."):
            value = getattr(value, part)
            if value is None:
                raise ConfigError(f"the config has no `{key}`, which this step needs")
        return value

    def require_detection_test(self) -> DetectionData:
        """The section `data.detection`; ConfigError if it is missing, or lacks a test split."""
        data: DetectionData = self.require("data.detection")
        if not data.has_test:
            raise ConfigError(
                "the config has neither `data.detection.test` nor `data.detection.test_holdout`: this step "
                "needs images to measure the final net on"
            )
        return data
