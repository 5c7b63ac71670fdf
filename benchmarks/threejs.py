"""An exported GLB in three.js, as a stranger's browser shows it: does the animated camera see every object over its mask?

    npm install three; python -m benchmarks.threejs node_modules/three SCENE.glb WORKSPACE [--pictures FOLDER]

Headless Chromium loads the file with three.js' own GLTFLoader, sets the animation to a frame's time and renders from the file's
animated camera: once as it is, once with one flat colour per object. Printed per object: mean IoU, over frames, of the pixels
of its colour with its mask (both without what hides it). --pictures keeps the renderings over the input frames.
"""

import argparse
import base64
import contextlib
import functools
import http.server
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from benchmarks.chromium import Browser, chromium
from benchmarks.tables import record
from pipelines.artifacts import Labels, Video

N_FRAMES = 8
LEAST_PX = 50
"""Masks smaller than this are not compared."""

PAGE = """<!doctype html><link rel="icon" href="data:,"><canvas id="canvas"></canvas>
<script type="importmap">{"imports": {"three": "./three/build/three.module.js"}}</script>
<script type="module">
import * as THREE from "three";
import { GLTFLoader } from "./three/examples/jsm/loaders/GLTFLoader.js";
const canvas = document.getElementById("canvas");
const renderer = new THREE.WebGLRenderer({ canvas, preserveDrawingBuffer: true });
new GLTFLoader().load("scene.glb", (gltf) => {
  const mixer = new THREE.AnimationMixer(gltf.scene);
  const actions = gltf.animations.map((clip) => mixer.clipAction(clip).setLoop(THREE.LoopOnce));
  const nodes = gltf.scene.children.filter((node) => node.getObjectByProperty("isMesh", true));
  const red = (i) => new THREE.Color().setRGB((i + 1) / 16, 0, 0);
  const flat = nodes.map((_, i) => new THREE.MeshBasicMaterial({ color: red(i), side: THREE.DoubleSide }));
  gltf.scene.add(new THREE.AmbientLight(0xffffff, 3));
  window.names = nodes.map((node) => node.userData.name ?? node.name);
  window.shot = (time, width, height, by_object) => {
    renderer.setSize(width, height, false);
    renderer.outputColorSpace = by_object ? THREE.LinearSRGBColorSpace : THREE.SRGBColorSpace;
    for (const action of actions) { action.reset().play(); action.clampWhenFinished = true; }
    mixer.setTime(time);
    const changed = [];
    nodes.forEach((node, i) => node.traverse((part) => {
      if (part.isMesh && by_object) { changed.push([part, part.material]); part.material = flat[i]; }
    }));
    gltf.scene.updateMatrixWorld(true);
    renderer.render(gltf.scene, gltf.cameras[0]);
    for (const [part, material] of changed) part.material = material;
    return canvas.toDataURL("image/png");
  };
  window.ready = true;
});
</script>"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder on a local web server: its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def opened(browser: Browser, three: Path, glb: Path, folder: Path) -> Iterator[Browser]:
    """The browser with a page that shows the GLB; `folder` is what the page is served from."""
    shutil.copytree(three / "build", folder / "three" / "build")
    shutil.copytree(three / "examples" / "jsm", folder / "three" / "examples" / "jsm")
    shutil.copy(glb, folder / "scene.glb")
    (folder / "index.html").write_text(PAGE, encoding="utf-8")
    with served(folder) as address:
        browser.open(f"{address}/index.html")
        browser.wait_for("return window.ready")
        yield browser


def shot(browser: Browser, time_s: float, width: int, height: int, *, by_object: bool) -> UInt8[np.ndarray, "h w 3"]:
    """The scene at a time from its animated camera, RGB. by_object: red is 255 (1 + place in the list of nodes) / 16."""
    url = browser.run("return window.shot(...arguments)", time_s, width, height, by_object)
    encoded = np.frombuffer(base64.b64decode(url.split(",", 1)[1]), np.uint8)
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]


def overlaps(browser: Browser, video: Video, labels: Labels, pictures: Path | None) -> dict[str, list[float]]:
    """IoU of every object with its mask, for evenly spread frames in which it shows."""
    # Nodes are called "01_object_1": their label comes first.
    drawn_labels = [int(name.split("_", 1)[0]) for name in browser.run("return window.names")]
    scores: dict[str, list[float]] = {name: [] for name in labels.names[1:]}
    for t in np.linspace(0, video.n_frames - 1, N_FRAMES).round().astype(int):
        size = video.width, video.height
        drawn = np.round(shot(browser, float(t / video.fps), *size, by_object=True)[..., 0] / 255 * 16).astype(int) - 1
        for label, name in enumerate(labels.names):
            mask = labels.maps[t] == label
            if label == 0 or label not in drawn_labels or mask.sum() < LEAST_PX:
                continue
            covered = drawn == drawn_labels.index(label)
            scores[name].append(float((mask & covered).sum() / (mask | covered).sum()))
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            seen = shot(browser, float(t / video.fps), *size, by_object=False)
            row = np.hstack([video.frame(int(t)), seen, video.frame(int(t)) // 2 + seen // 2])
            cv2.imwrite(str(pictures / f"{t:06d}.png"), row[..., ::-1])
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("three", type=Path, help="folder of the npm package three")
    parser.add_argument("glb", type=Path)
    parser.add_argument("workspace", type=Path, help="workspace that the GLB was exported from")
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    video, labels = Video.load(arguments.workspace / "frames"), Labels.load(arguments.workspace / "segment")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, chromium(Path(folder) / "profile") as browser:
        (Path(folder) / "page").mkdir()
        with opened(browser, arguments.three, arguments.glb, Path(folder) / "page"):
            for name, scores in overlaps(browser, video, labels, arguments.pictures).items():
                mean = float(np.mean(scores)) if scores else float("nan")
                print(f"{name:12} IoU {mean:.3f} (worst {min(scores, default=float('nan')):.3f}, {len(scores)} frames)")
                record("threejs", {"object": name, "iou": mean})
            print(f"complaints of the browser: {browser.complaints() or 'none'}")


if __name__ == "__main__":
    main()
