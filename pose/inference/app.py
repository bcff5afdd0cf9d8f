"""The page of `pose app`: people found in an image, in a video or before a camera, shown in a browser.

Legend: P people, K joints. The page is made with gradio, which is imported when it is made.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pose.data.results import write_results
from pose.inference.draw import draw_people
from pose.inference.predictor import Predictor
from pose.io.errors import UserError, installed
from pose.io.images import read_image, write_image
from pose.io.video import VIDEO_SUFFIXES, VideoReader, video_writer
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results

# Nothing leaves this machine; gradio and what it imports read these as they are imported.
OFFLINE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
LARGEST_FILE = "2gb"
KEPT_SECONDS = 3600  # that gradio keeps what was uploaded and drawn
CSS = """
footer {display: none !important}
.gradio-container {width: 100%; max-width: 1200px !important; margin: 0 auto}
"""
NARROW = 280  # px; what has less room goes below what it was beside

State = tuple[Path, list[ImageResult], Path]  # a file, who was found in it, and where that is drawn


def find(source: Path, predictor: Predictor) -> list[ImageResult]:
    """All people of an image, or of each frame of a video, likely or not; UserError if it cannot be read."""
    results: list[ImageResult] = []
    for images, seconds in _images(source):
        for image_HW3, people, second in zip(images, predictor.predict(images), seconds, strict=True):
            height, width = image_HW3.shape[:2]
            frame = None if second is None else len(results)
            results.append(ImageResult(people, source.name, frame, second, width, height))
    return results


def shown(people: People, min_person: float, min_joint: float) -> People:
    """The people with at least that score, and of them the joints with at least that confidence."""
    people = people.above(min_person)
    is_sure_PK = people.score_PK >= min_joint
    joint_PK2 = np.where(is_sure_PK[..., None], people.joint_PK2, np.nan)
    return People(joint_PK2, np.where(is_sure_PK, people.score_PK, 0), people.score_P)


def write(
    source: Path,
    results: list[ImageResult],
    folder: Path,
    predictor: Predictor,
    min_person: float,
    min_joint: float,
) -> tuple[Path, Path, str]:
    """Write the drawn copy and the joints of what is shown; their paths, and a line that says how much it is.

    A video is drawn as WebM, which browsers play.
    """
    kept = [replace(one, people=shown(one.people, min_person, min_joint)) for one in results]
    joints, skeleton = folder / f"{source.stem}.json", predictor.skeleton
    write_results(joints, Results(kept, skeleton, len(skeleton), task=predictor.task), "json")
    is_video = source.suffix.lower() in VIDEO_SUFFIXES
    drawn = folder / (f"{source.stem}-drawn.webm" if is_video else f"{source.stem}-drawn.jpg")
    rest = iter(kept)
    with video_writer(drawn, VideoReader(source).fps) if is_video else nullcontext() as write_frame:
        for images, seconds in _images(source):
            for image_HW3, second, one in zip(images, seconds, rest, strict=False):
                drawn_HW3 = draw_people(image_HW3, one.people, skeleton)
                if write_frame and second is not None:
                    write_frame(drawn_HW3, second)
                else:
                    write_image(drawn, drawn_HW3)
    people = sum(len(one.people) for one in kept)
    found = sum(int(np.isfinite(one.people.joint_PK2).all(axis=2).sum()) for one in kept)
    where = f" in {len(kept):,} frames" if is_video else ""
    return drawn, joints, f"People: {people:,}. Joints: {found:,}{where}."


def _images(source: Path) -> Iterator[tuple[list[np.ndarray], list[Any]]]:
    """Images, a few at a time, and when each is shown; None for one that is no frame of a video."""
    if source.suffix.lower() not in VIDEO_SUFFIXES:
        yield [read_image(source, upright=True)], [None]
        return
    video = VideoReader(source)
    for frames in video.read_frames():
        yield frames, video.seconds


def make_page(predictor: Predictor, folder: Path) -> Any:
    """The page, a `gradio.Blocks`. folder: for drawn copies and joints. UserError where gradio is missing."""
    os.environ.update(OFFLINE)
    with installed("for the page: pip install 'pose[app]'"):
        import gradio as gr

    @contextmanager
    def refusing(source: Path) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            raise gr.Error(str(error).replace(f"{source}", source.name), print_exception=False) from None

    def draw(state: State | None, min_person: float, min_joint: float) -> list[Any]:
        if state is None:
            return [None, "", gr.DownloadButton(interactive=False), gr.DownloadButton(interactive=False)]
        with refusing(state[0]):
            drawn, joints, line = write(*state, predictor, min_person, min_joint)
        buttons = [gr.DownloadButton(value=path, interactive=True) for path in (drawn, joints)]
        return [drawn, line, *buttons]

    def look(file: str | None, min_person: float, min_joint: float) -> list[Any]:
        state = None
        if file:
            source = Path(file)
            with refusing(source):
                state = source, find(source, predictor), Path(tempfile.mkdtemp(dir=folder))
        return [state, *draw(state, min_person, min_joint)]

    many = predictor.problem == "multi"
    file = {"type": "filepath", "image_mode": None}  # as it was uploaded, with its EXIF data
    kinds: list[tuple[str, Any, list[str], dict[str, Any], list[str]]] = [
        ("Image", gr.Image, ["upload", "webcam", "clipboard"], file, ["fullscreen"]),
        ("Video", gr.Video, ["upload", "webcam"], {}, []),
    ]
    settings = {"title": f"pose: {predictor.task}", "delete_cache": (KEPT_SECONDS, KEPT_SECONDS)}
    fine: dict[str, Any] = {"step": 0.01, "min_width": NARROW}
    unused: dict[str, Any] = {"interactive": False, "min_width": NARROW}
    with gr.Blocks(analytics_enabled=False, **settings) as page:
        gr.Markdown(f"# People, found by {predictor.task}\nNothing that is shown here leaves this machine.")
        for name, component, sources, more, buttons in kinds:
            with gr.Tab(name):
                with gr.Row():
                    source = component(label=name, sources=sources, min_width=NARROW, **more)
                    drawn = component(label="People", interactive=False, min_width=NARROW, buttons=buttons)
                line, state = gr.Markdown(), gr.State()
                with gr.Row():
                    few = gr.Slider(0, 1, 0.1 if many else 0, label="Minimum score of people", **fine)
                    sure = gr.Slider(0, 1, 0, label="Minimum confidence of joints", **fine)
                with gr.Row():
                    save_drawn = gr.DownloadButton("Download the drawn copy", **unused)
                    save_joints = gr.DownloadButton("Download the joints (JSON)", **unused)
                results = [drawn, line, save_drawn, save_joints]
                # One at a time: the network may fill a GPU.
                one = {"concurrency_id": "network", "concurrency_limit": 1, "trigger_mode": "always_last"}
                one["api_visibility"] = "private"
                source.change(look, [source, few, sure], [state, *results], **one)
                gr.on([few.change, sure.change], draw, [state, few, sure], results, **one)
    return page


def serve(predictor: Predictor, port: int) -> None:
    """Serve the page to this machine alone until Ctrl-C; UserError if the port is taken."""
    with tempfile.TemporaryDirectory(prefix="pose-app-") as folder:
        page = make_page(predictor, Path(folder))
        place: dict[str, Any] = {"server_name": "127.0.0.1", "server_port": port, "share": False}
        place |= {"ssr_mode": False, "pwa": False, "quiet": True, "footer_links": [], "css": CSS}
        try:
            page.launch(prevent_thread_lock=True, max_file_size=LARGEST_FILE, **place)
        except OSError:
            raise UserError(f"--port {port}: found it taken, expected a free one") from None
        print(f"http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
        page.block_thread()
