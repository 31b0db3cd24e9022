"""[generation]: the diffusion model and how to run it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from gendataagent.config.few_steps import (
    GUIDANCE,
    STEPS,
    FewSteps,
    recognise_lora,
    recognise_model,
)
from gendataagent.config.settings import setting
from gendataagent.core.devices import AUTO
from gendataagent.core.records import FROM_IMAGE, FROM_NOISE, RETRIEVAL, WITH_EDGES


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """The diffusion model and how to run it."""

    generator: str = setting(
        AUTO,
        "tiny-sd (bundled, 32 px, for trying out), retrieval (no generator: finds like images in "
        "retrieval_folder), or a hub id or path of an image-to-image pipeline of diffusers; auto = "
        "SD 1.5 if there is a GPU and its weights are on this machine, else tiny-sd",
        source="Stable Diffusion 1.5 [S]",
        path=True,
        names=(AUTO, "tiny-sd", RETRIEVAL),
    )
    revision: str = setting("", "hub revision; empty = for SD 1.5 a pinned commit, else the newest")
    retrieval_folder: str = setting(
        "",
        "with generator retrieval: folder of your own images, or parquet files with images; labels "
        "are not read",
        path=True,
        switch=True,
    )
    retrieval_model: str = setting(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "with generator retrieval: hub id or path of the image-text encoder of transformers that "
        "says which images are alike",
        source="CLIP in Geng et al. [R]",
        path=True,
        switch=True,
    )
    variant: str = setting("", "file variant on the hub, such as fp16; empty = the plain files")
    lora: str = setting(
        "",
        "LoRA weights to generate with: a safetensors file, a folder, OWNER/NAME or "
        "OWNER/NAME/FILE.safetensors on the hub; empty = none",
        path=True,
    )
    lora_scale: float = setting(
        0.5, "strength of the LoRA when generating", source="0.5 [C]", at_least=0, at_most=2
    )
    class_tokens: str = setting(
        "",
        "a word of its own for each class, used wherever a prompt names the class: the folder or "
        "file that gendataagent adapt with adaptation.kind = tokens has written; empty = none",
        path=True,
        switch=True,
    )
    class_loras: str = setting(
        "",
        "a LoRA for each class, used for the images of that class at lora_scale: the folder that "
        "gendataagent adapt with adaptation.per_class has written; empty = none",
        path=True,
        switch=True,
    )
    few_step_lora: str = setting(
        "",
        "LoRA weights that let the generator work in few steps, named as in lora: LCM, TCD, "
        "Hyper-SD, SDXL-Lightning or Turbo, merged at full strength beside lora. Recognised by "
        "name or metadata, it decides what scheduler, num_inference_steps and guidance_scale leave "
        "at auto; empty = none. See docs/speed.md",
        path=True,
        switch=True,
    )
    size_px: int = setting(
        0, "side of the square images; 0 = the model's own", unit="px", source="512 [C]",
        at_least=0,
    )  # fmt: skip
    strength: float = setting(
        0.75,
        "share of the noise schedule applied to the real image's latent: 0 = the image, 1 = from "
        "text alone",
        source="0.50 / 0.75 / 0.90 swept [S]",
        above=0,
        at_most=1,
    )
    strengths: tuple[float, ...] = setting(
        (),
        "strengths of which each image gets one, drawn by its seed; empty = generation.strength "
        "for all",
        above=0,
        at_most=1,
        switch=True,
    )
    start: str = setting(
        FROM_IMAGE,
        "image = from the latent of the source image, noised by strength; noise = from text alone, "
        "which is strength 1: the source then gives its class and its caption",
        choices=(FROM_IMAGE, FROM_NOISE),
        switch=True,
    )
    condition: str = setting(
        "none",
        "edges = the image follows the edges of the source image, by generation.controlnet, from "
        "whatever generation.start says; none = no ControlNet",
        choices=("none", WITH_EDGES),
        switch=True,
    )
    controlnet: str = setting(
        "lllyasviel/control_v11p_sd15_canny",
        "with condition edges: hub id or path of a ControlNet of diffusers for edges (Canny) and "
        "the generator's model; the default is for SD 1.5, and for SDXL there is "
        "diffusers/controlnet-canny-sdxl-1.0",
        source="SaSPA's code [C]",
        path=True,
        switch=True,
    )
    controlnet_revision: str = setting(
        "", "hub revision of the ControlNet; empty = the newest", switch=True
    )
    controlnet_scale: float = setting(
        0.75,
        "with condition edges: strength of the ControlNet; 1 = as trained",
        source="SaSPA's code [C]",
        at_least=0,
        at_most=2,
        switch=True,
    )
    edge_thresholds: tuple[float, ...] = setting(
        (120.0, 200.0),
        "with condition edges: gradients that continue and that start an edge (Canny's low and "
        "high threshold, as in OpenCV); lower ones find more edges",
        source="SaSPA's code [C]",
        above=0,
        at_most=4000,
        switch=True,
    )
    edge_blur_px: float = setting(
        0.0,
        "with condition edges: deviation of a Gaussian blur before edges are found, for grainy "
        "images; 0 = none, as in OpenCV, on whose edges ControlNets are trained",
        unit="px",
        at_least=0,
        at_most=20,
        switch=True,
    )
    prompt_class: str = setting(
        "own",
        "class that the prompt names: own = that of the source image; other = another one, drawn "
        "for each image by its seed",
        source="other in Diff-Mix [C]",
        choices=("own", "other"),
        switch=True,
    )
    soft_label_gamma: float = setting(
        0.0,
        "with prompt_class other: share of the prompt's class in the label = strength to this "
        "power, the source's class has the rest; 0 = the prompt's class alone",
        source="0.5 in UniDiffDA [R], 0.8 in Diff-Mix's example [C]",
        at_least=0,
        at_most=10,
        switch=True,
    )
    guidance_scale: float | str = setting(
        AUTO,
        "scale of classifier-free guidance; at most 1 = none, in half the time. auto = 7.5, or "
        "what a model or LoRA for few steps was distilled for",
        source="7.5 augmenting, 2.0 synthetic only [S]",
        choices=(AUTO,),
        at_least=0,
    )
    num_inference_steps: int | str = setting(
        AUTO,
        "scheduler steps; floor(steps * strength) of them are executed. auto = 30, or what a model "
        "or LoRA for few steps was distilled for",
        source="30 [C]",
        choices=(AUTO,),
        at_least=1,
    )
    negative_prompt: str = setting(
        "distorted, unrealistic, blurry, out of frame",
        "text that guidance steers away from",
        source="[S]",
    )
    scheduler: str = setting(
        AUTO,
        "name of a diffusers scheduler class, optionally with a timestep spacing "
        "(DDIMScheduler:trailing); auto = UniPCMultistepScheduler, the model's own if that is for "
        "few steps or flow matching, or the one of few_step_lora",
        source="UniPC [C]",
    )
    chunk_size: int = setting(
        16,
        "images per render task, the unit of work that an interruption can lose; rounded up to "
        "whole batches",
        at_least=1,
        affects_results=False,
    )
    batch_size: int | str = setting(
        AUTO,
        "images per pipeline call, reduced only if memory runs out. Another value changes "
        "rounding, so images differ slightly. auto = the largest up to 32 on a CPU, 64 on a GPU, "
        "that fits with room to spare and is filled by a round, fixed when the run is made",
        choices=(AUTO,),
        at_least=1,
    )
    image_cache: str = setting(
        "",
        "folder that stores images for reuse by runs with the same requests; empty = none",
        affects_results=False,
        path=True,
    )
    executor: str = setting(
        AUTO,
        "where images are made: serial = in this process; process = in worker processes of this "
        "machine; ray = on a Ray cluster or all GPUs of this machine; auto = ray if a cluster's "
        "address is given, ray or process if there are several GPUs, process if there are "
        "workers, else serial. See docs/devices.md",
        choices=(AUTO, "serial", "process", "ray"),
        affects_results=False,
    )
    workers: int = setting(
        0,
        "workers that generate images; 0 = one per GPU, or as many as the Ray cluster has room for",
        at_least=0,
        affects_results=False,
    )
    gpus_per_worker: float = setting(
        1.0,
        "share of a GPU for each worker of several GPUs; 0.25 = four workers per GPU",
        above=0,
        at_most=1,
        affects_results=False,
    )
    ray_address: str = setting(
        "",
        "address of the Ray cluster, such as 10.0.0.1:6379 or auto; empty = RAY_ADDRESS of the "
        "environment, else one is started on this machine",
        affects_results=False,
    )
    wait_for_workers_s: float = setting(
        600.0,
        "how long a round waits while the Ray cluster has no room for a single worker",
        unit="s",
        above=0,
        affects_results=False,
    )
    dtype: str = setting(
        AUTO,
        "auto = float16 on a GPU, bfloat16 on a CPU with AMX or AVX512-BF16, else float32; fixed "
        "when the run is made",
        source="fp16 [C]",
        choices=(AUTO, "float16", "bfloat16", "float32"),
    )
    channels_last: bool = setting(
        False,
        "keep images and feature maps with their channels last: faster convolutions on many GPUs, "
        "slower on a CPU",
        switch=True,
    )
    fuse_qkv: bool = setting(
        False, "one matrix product for query, key and value of attention instead of three",
        switch=True,
    )  # fmt: skip
    compile: bool = setting(
        False,
        "compile the blocks that the UNet or transformer repeats, once per run; needs a C++ "
        "compiler on a CPU",
        switch=True,
    )
    decoder: str = setting(
        "vae",
        "what decodes the images: vae = the generator's autoencoder; or a tiny autoencoder, faster "
        "and coarser: a folder or hub id, such as madebyollin/taesd",
        path=True,
        names=("vae",),
        switch=True,
    )
    merge_tokens: float = setting(
        0.0,
        "share of the tokens that is merged into like ones in the UNet's self-attention at its "
        "highest resolution: faster from 512 px on, and coarser; 0.5 is usual, 0 = off",
        source="Bolya and Hoffman 2023, named [S]",
        at_least=0,
        at_most=0.75,
        switch=True,
    )
    feedback: str = setting(
        "none",
        "what the classifier steers each denoising step towards: entropy = images it cannot "
        "decide on; loss = images it gets wrong; margin = the boundary to the nearest other "
        "class; easy and random = controls; none = no feedback. See docs/feedback.md",
    )
    feedback_scale: float | str = setting(
        AUTO,
        "length of each step's change, where latents have deviation 1; auto = each round searches "
        "the length at which synthetic images are as hard for the classifier as validation images",
        choices=(AUTO,),
        above=0,
        at_most=1,
    )
    feedback_target: float = setting(
        1.0,
        "what auto aims at: mean p(true class) of synthetic images as a multiple of that of "
        "validation images; below 1 = harder than photographs",
        above=0,
        at_most=2,
    )
    feedback_views: int = setting(
        3,
        "views of the image over which the gradient is summed: 1 = the image, 2 = and its mirror "
        "image, 3 = and a blurred copy, 4 = and a shifted one, 5 = and one in grey, 6 = and one of "
        "low contrast",
        at_least=1,
        at_most=6,
    )
    feedback_steps: tuple[float, ...] = setting(
        (0.0, 1.0), "first and last share of the executed steps that are steered"
    )
    feedback_first_round: int = setting(
        0,
        "first round with feedback, counted from 0; a round before any training never has it",
        at_least=0,
    )
    feedback_decoder: str = setting(
        "vae",
        "what decodes the image at each step: vae = the generator's autoencoder; half = the same "
        "at half the side, for less memory; or a tiny autoencoder: a folder or hub id, such as "
        "madebyollin/taesd",
    )
    feedback_images: int = setting(
        48,
        "images of each round that are made without feedback too, to search the scale and to "
        "compare on the report",
        at_least=4,
    )

    @property
    def few_steps(self) -> FewSteps | None:
        """What its LoRA or its model was distilled for; None where it is for many steps."""
        return recognise_lora(self.few_step_lora) or recognise_model(self.generator)

    @property
    def made_from(self) -> str:
        """What images are made from: "image", "noise", or noise along "edges"."""
        has_edges = self.start == FROM_NOISE and self.condition == WITH_EDGES
        return WITH_EDGES if has_edges else self.start

    @property
    def drawn_strengths(self) -> tuple[float, ...]:
        """The strengths that images get, each equally likely."""
        if self.start == FROM_NOISE:
            return (1.0,)
        return self.strengths or (self.strength,)

    @property
    def steps(self) -> int:
        """`num_inference_steps`, decided."""
        if isinstance(self.num_inference_steps, int):
            return self.num_inference_steps
        few = self.few_steps
        return few.steps if few else STEPS

    @property
    def guidance(self) -> float:
        """`guidance_scale`, decided."""
        if not isinstance(self.guidance_scale, str):
            return self.guidance_scale
        few = self.few_steps
        return few.guidance_scale if few else GUIDANCE

    @property
    def sampler(self) -> str:
        """`scheduler`, decided as far as the settings alone allow; auto = by the model's own."""
        few = self.few_steps
        return few.scheduler if few and self.scheduler == AUTO else self.scheduler

    def decided(self) -> Self:
        """Return the settings with scheduler, steps and guidance decided."""
        return replace(
            self,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            scheduler=self.sampler,
        )

    def without_few_steps(self) -> Self:
        """Return the settings of the same generator without its LoRA for few steps."""
        if not self.few_step_lora:
            return self
        return replace(
            self,
            few_step_lora="",
            num_inference_steps=AUTO,
            guidance_scale=AUTO,
            scheduler=AUTO,
        )

    @property
    def task_size(self) -> int:
        """Images per render task: `chunk_size`, rounded up to whole batches."""
        batch = self.batch_size if isinstance(self.batch_size, int) else 1
        return -(-self.chunk_size // batch) * batch
