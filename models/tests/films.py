"""Films for tests: a still background of grey squares, people of one colour who walk by."""

import numpy as np

SIZE = (120, 160)  # height, width
BODY = (70, 24)
RED, GREEN = (230, 20, 20), (20, 220, 30)


def scenery():
    """[H, W, 3] that shows nobody."""
    coarse = np.random.default_rng(1).integers(90, 160, (12, 16, 1), dtype=np.uint8)
    return np.repeat(np.repeat(coarse, 10, axis=0), 10, axis=1).repeat(3, axis=2)


def film(*visits, body=BODY, empty=6):
    """Each visit is a colour and the columns walked to; before and after it are empty frames."""
    still = scenery()
    frames = [still] * empty
    for colour, columns in visits:
        for column in columns:
            frame = still.copy()
            left = max(0, column)
            frame[40 : 40 + body[0], left : max(0, column + body[1])] = colour
            frames.append(frame)
        frames += [still] * empty
    return frames


def write_film(path, frames):
    """A video file of frames [H, W, 3]; this takes PyAV."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
