"""The table of model weights that this program can use: where their authors publish them, and what they should hash to."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WeightsFile:
    """One file of a model. `sha256` is empty where the authors publish none."""

    name: str
    url: str
    sha256: str = ""
    also_sha256: tuple[str, ...] = ()
    """Other published files that serve the same purpose, so that a copy from elsewhere also verifies."""

    def accepts(self, sha256: str) -> bool:
        return sha256 in (self.sha256, *self.also_sha256)


@dataclass(frozen=True)
class Weights:
    """An entry of the registry. A model of several files is a folder of its name."""

    name: str
    purpose: str
    licence: str
    size_mb: int
    files: tuple[WeightsFile, ...]

    def place(self, folder: Path) -> Path:
        """Where the model lies below a weights folder: its only file, or the folder of its files."""
        return folder / (self.files[0].name if len(self.files) == 1 else self.name)

    def paths(self, folder: Path) -> list[Path]:
        """Every file of the model below a weights folder."""
        place = self.place(folder)
        return [place] if len(self.files) == 1 else [place / file.name for file in self.files]


_PYTORCH = "https://download.pytorch.org/models/"
_SAM = "https://dl.fbaipublicfiles.com/segment_anything/"


def _hugging_face(repository: str) -> tuple[WeightsFile, ...]:
    """The two files that the video models are built from. Hugging Face publishes no hash that one could look up offline."""
    base = f"https://huggingface.co/{repository}/resolve/main/"
    return tuple(WeightsFile(name, base + name) for name in ("config.json", "model.safetensors"))


PUBLISHED = (
    Weights(
        name="raft-small",
        purpose="optical flow, RAFT small",
        licence="BSD-3-Clause",
        size_mb=4,
        files=(
            WeightsFile(
                name="raft-small.pth",
                url=_PYTORCH + "raft_small_C_T_V2-01064c6d.pth",
                sha256="01064c6dba73b0fc9fc8edf772248560a00a3acfd62ac6677e9eeebad9680e27",
                also_sha256=("c7d41b9cc88442bb8aa911dbb33086dac55a226394b142937ff22d5578717332",),
            ),
        ),
    ),
    Weights(
        name="raft-large",
        purpose="optical flow, RAFT large",
        licence="BSD-3-Clause",
        size_mb=21,
        files=(
            WeightsFile(
                name="raft-large.pth",
                url=_PYTORCH + "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
                sha256="ff5fadd56d26b40647388883af1547351ea17868b765c05b27231e72dd16a322",
                also_sha256=(
                    "fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
                    "90630d2e7d488a0d3ccb5e8194524850c4c05c732ea4ff99799822c7fa5c5cbf",
                ),
            ),
        ),
    ),
    Weights(
        name="sam-vit-b",
        purpose="segmentation, Segment Anything, base",
        licence="Apache-2.0",
        size_mb=375,
        files=(
            WeightsFile(
                name="sam_vit_b_01ec64.pth",
                url=_SAM + "sam_vit_b_01ec64.pth",
                sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            ),
        ),
    ),
    Weights(
        name="sam-vit-l",
        purpose="segmentation, Segment Anything, large",
        licence="Apache-2.0",
        size_mb=1250,
        files=(
            WeightsFile(
                name="sam_vit_l_0b3195.pth",
                url=_SAM + "sam_vit_l_0b3195.pth",
                sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            ),
        ),
    ),
    Weights(
        name="sam-vit-h",
        purpose="segmentation, Segment Anything, huge",
        licence="Apache-2.0",
        size_mb=2565,
        files=(
            WeightsFile(
                name="sam_vit_h_4b8939.pth",
                url=_SAM + "sam_vit_h_4b8939.pth",
                sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            ),
        ),
    ),
    Weights(
        name="sam2.1-hiera-tiny",
        purpose="segmentation with video memory, SAM 2.1, tiny",
        licence="Apache-2.0",
        size_mb=156,
        files=_hugging_face("facebook/sam2.1-hiera-tiny"),
    ),
    Weights(
        name="sam2.1-hiera-large",
        purpose="segmentation with video memory, SAM 2.1, large",
        licence="Apache-2.0",
        size_mb=898,
        files=_hugging_face("facebook/sam2.1-hiera-large"),
    ),
    Weights(
        name="edgetam",
        purpose="segmentation with video memory, EdgeTAM",
        licence="Apache-2.0",
        size_mb=56,
        files=_hugging_face("yonigozlan/EdgeTAM-hf"),
    ),
    Weights(
        name="lpips-alex",
        purpose="perceptual distance, AlexNet backbone (the linear heads come with the lpips package)",
        licence="BSD-3-Clause",
        size_mb=244,
        files=(
            WeightsFile(
                name="alexnet-owt-7be5be79.pth",
                url=_PYTORCH + "alexnet-owt-7be5be79.pth",
                sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            ),
        ),
    ),
    Weights(
        name="lpips-vgg",
        purpose="perceptual distance, VGG-16 backbone (the linear heads come with the lpips package)",
        licence="BSD-3-Clause",
        size_mb=553,
        files=(
            WeightsFile(
                name="vgg16-397923af.pth",
                url=_PYTORCH + "vgg16-397923af.pth",
                sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            ),
        ),
    ),
)
