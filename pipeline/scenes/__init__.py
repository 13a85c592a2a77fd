"""Street scenes that are made up, with the whole truth about every frame.

    scene = Scene(Setting(seed=3, time="night"))
    sample = scene.frame(250)  # ten seconds later

    pictures = Scenes(seed=7, length=1000)  # a data set

Everything follows from the seed. Needs Pillow (the `draw` extra).
"""
