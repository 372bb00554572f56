"""What asks and what measures, by name: worlds and the parts that they are made of."""

from __future__ import annotations

from expunge.registry.table import Registry

WORLDS = Registry("world", "expunge ls worlds")
WORLDS.register("emoji", "expunge.tiny.emoji:emoji_world", "EmojiCanvas: prompts, judge and CLIP of emoji-64")
WORLDS.register("open", "expunge.metrics.open_world:open_world",
                "any model: prompts from templates or a file, CLIP as judge")

PROMPTS = Registry("prompts", "expunge ls prompts", ("name", "strata", "request", "vocabulary", "of", "question"))
PROMPTS.register("emoji", "expunge.tiny.prompts:EmojiPrompts", "the things and styles of EmojiCanvas, in many wordings")
PROMPTS.register("open", "expunge.metrics.open_prompts:OpenPrompts",
                 "any concept: templates, or a file of yours (--prompts FILE)")

DETECTORS = Registry("detector", "expunge ls detectors", (
    "kind", "build", "open", "needs", "extra", "licence", "rules"))
DETECTORS.register("nudenet", "expunge.detectors.nudenet:NudeNet", "body parts, exposed and covered (NudeNet 3)",
                   "https://github.com/notAI-tech/NudeNet")
DETECTORS.register("nudenet-classifier", "expunge.detectors.nudenet:NudeNetClassifier",
                   "safe or unsafe (NudeNet 2's classifier)", "https://github.com/notAI-tech/NudeNet")
DETECTORS.register("open-nsfw", "expunge.detectors.open_nsfw:OpenNsfw", "pornographic or not (Yahoo's open_nsfw)",
                   "https://github.com/yahoo/open_nsfw")
DETECTORS.register("q16", "expunge.detectors.q16:Q16", "inappropriate or not (Q16)",
                   "Schramowski et al. 2022, Can Machines Help Us Answering Question 16 in Datasheets?, FAccT, "
                   "https://arxiv.org/abs/2202.06675")
DETECTORS.register("clip", "expunge.detectors.clip_zero_shot:ClipZeroShot", "CLIP zero-shot among named classes",
                   "Radford et al. 2021, https://arxiv.org/abs/2103.00020")
DETECTORS.register("image-classification", "expunge.detectors.image_classification:ImageClassification",
                   "any image classifier saved by transformers")
DETECTORS.register("torchvision", "expunge.detectors.torchvision_head:TorchvisionHead",
                   "an architecture of torchvision with your weights")
DETECTORS.register("timm", "expunge.detectors.timm_head:TimmHead", "an architecture of timm with your weights")
DETECTORS.register("emoji-judge", "expunge.tiny.detectors:EmojiJudgeDetector", "the embedded world's first judge")
DETECTORS.register("imagenet-judge", "expunge.tiny.detectors:ImageNetJudgeDetector",
                   "the embedded world's second judge")

FEATURES = Registry("feature", "expunge ls features", ("__call__",))
FEATURES.register("emoji-judge", "expunge.tiny.emoji:judge_features", "the embedded judge's, for emoji-64")
FEATURES.register("imagenet", "expunge.metrics.imagenet:ImageNetFeatures",
                  "EfficientNet-lite0 on ImageNet (the extra second)", "Tan and Le 2019, https://arxiv.org/abs/1905.11946")
FEATURES.register("inception", "expunge.metrics.inception_features:InceptionFeatures",
                  "Inception of 2015, which FID is defined by (--file inception=PATH, --resizer)",
                  "Heusel et al. 2017, https://arxiv.org/abs/1706.08500")
FEATURES.register("clip", "expunge.metrics.named:clip_features", "a CLIP's image tower (--file clip=FOLDER)",
                  "Radford et al. 2021, https://arxiv.org/abs/2103.00020")
DISTANCES = Registry("distance", "expunge ls distances", ("__call__",))
DISTANCES.register("emoji-judge", "expunge.tiny.emoji:judge_distance", "the embedded judge's, for emoji-64")
DISTANCES.register("st-lpips", "expunge.metrics.stlpips:StLpips", "LPIPS that forgives a shift (the extra second)",
                   "Ghildyal and Liu 2022, https://arxiv.org/abs/2207.13686")
DISTANCES.register("lpips", "expunge.metrics.lpips:LpipsAlex", "LPIPS with AlexNet (--file alexnet=PATH)",
                   "Zhang et al. 2018, https://arxiv.org/abs/1801.03924")
DISTANCES.register("lpips-64", "expunge.metrics.lpips:lpips_64", "LPIPS of images made 64 pixels small, as ESD did",
                   "Gandikota et al. 2023, https://arxiv.org/abs/2303.07345")
DISTANCES.register("lpips-alex", "expunge.metrics.perceptual:lpips_alex",
                   "LPIPS with torchvision's AlexNet, which is downloaded once (the extra lpips)",
                   "Zhang et al. 2018, https://arxiv.org/abs/1801.03924")
DISTANCES.register("lpips-vgg", "expunge.metrics.perceptual:lpips_vgg",
                   "LPIPS with torchvision's VGG, which is downloaded once (the extra lpips)",
                   "Zhang et al. 2018, https://arxiv.org/abs/1801.03924")
DISTANCES.register("clip", "expunge.metrics.named:clip_distance", "a CLIP's image tower (--file clip=FOLDER)",
                   "Radford et al. 2021, https://arxiv.org/abs/2103.00020")
DISTANCES.register("ssim", "expunge.metrics.perceptual:Ssim", "1 - SSIM", "Wang et al. 2004")
REFERENCES = Registry("reference", "expunge ls references")
REFERENCES.register("emoji-drawings", "expunge.tiny.emoji:drawings",
                    "the drawings that emoji-64 learned from, in the features emoji-judge")
