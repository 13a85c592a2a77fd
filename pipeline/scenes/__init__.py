"""Street scenes that are made up, with the whole truth about every frame.

    scene = Scene(Setting(seed=3, time="night"))
    sample = scene.frame(250)  # ten seconds later

    pictures = Scenes(seed=7, length=1000)  # a data set
    write_clip(Path("yard.mp4"), Setting(seed=3), frames=600)  # and yard.jsonl

Everything follows from the seed and from this code, on one kind of processor to the byte. Read it
in this order: `setting` and `scene`; `view`, `light`, `street` and `traffic` say what there is;
`backdrop` with `ground` and `facades` draws what never moves; `model`, `vehicles`, `heavy`,
`figures` and `props` are bodies, `sprite` and `cast` draw them, `painter` puts all together and
observes the truth. Needs Pillow (the `draw` extra).
"""

from __future__ import annotations

from pipeline.scenes.scene import LEAST_VISIBLE, NAMES, SMALLEST, Scene
from pipeline.scenes.sets import Scenes
from pipeline.scenes.setting import Setting

__all__ = ["LEAST_VISIBLE", "NAMES", "SMALLEST", "Scene", "Scenes", "Setting"]
