"""Drawing dressed bodies with OpenGL, which a software renderer can do as well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.people.garments import ATTRIBUTES, COVERED, LIMBS, Part
from models.datasets.people.patterns import RGB, Cloth
from models.datasets.people.shaders import FRAGMENT, VERTEX
from models.errors import DatasetError
from models.packages import how_to_install

Picture = NDArray[np.uint8]

BONES = 256
SAMPLES = 4
FILL = 0.8
"""Of a picture's height, how much somebody fills."""
# How far down a leg it is never bare, as `Shape.leg` counts.
IN_SHOES = 2.2
# What a layer is; the shader calls them by their place.
SKIN, GARMENT, HAIR, THING = range(4)


@dataclass(frozen=True, eq=False)
class Layer:
    """A part and its material.

    Attributes:
        what: SKIN, GARMENT, HAIR or THING.
        role: index of its tint in the dress.
        part: its triangles.
        texture: [H, W, 4]; None: white.
        levels: mean brightness of the texture, of a garment's top and of the rest.
        strength: for hair and things: how much of the texture's contrast is kept, in [0, 1].
        from_height, to_height: what is below or above, at rest, is not drawn; decimetres.
        key: textures with the same key are uploaded once.
    """

    what: int
    role: str
    part: Part
    texture: NDArray[np.uint8] | None = None
    levels: tuple[float, float] = (1.0, 1.0)
    strength: float = 1.0
    from_height: float = -100.0
    to_height: float = 100.0
    key: str = ""


@dataclass(frozen=True, eq=False)
class Dress:
    """The colours of one person's layers.

    Attributes:
        cloths: for the top and the bottom.
        tints: by role: colour in [0, 1] of hair and things; a factor on skin.
        sleeves, legs: how far the cloth reaches down arms and legs, as in `Shape.arm`.
        straps: 0 none, 1 backpack, 2 across the chest from the left, 3 from the right.
        strap: its colour in [0, 1].
        chest, neck, hip: heights in the rest pose, in decimetres.
        veiled: height above which a skirt hides the legs, in decimetres.
        one: whether top and skirt are one piece.
        tights: colour of the legs where no cloth covers them; None for skin.
        bare: whether the belly shows where no cloth covers it.
        middle: how far in front the middle of the trunk is, in decimetres.
        seed: for the creases.
    """

    cloths: tuple[Cloth, Cloth]
    tints: Mapping[str, RGB]
    sleeves: float
    legs: float
    straps: int
    strap: tuple[float, float, float]
    chest: float
    neck: float
    middle: float
    hip: float
    veiled: float
    one: bool
    tights: RGB | None
    bare: bool
    seed: float


@dataclass(frozen=True)
class View:
    """The viewpoint and the light of a picture.

    Attributes:
        facing: degrees; 0 towards the camera, 90 to the right of the picture.
        pitch: degrees that the camera looks down.
        distance: decimetres.
        sun: unit vector towards the light; x right, y up, z to the camera.
        sunshine, sky: strengths of direct and of scattered light; 1 together is full.
        warmth: of the direct light, in [-1, 1].
    """

    facing: float
    pitch: float
    distance: float
    sun: tuple[float, float, float]
    sunshine: float
    sky: float
    warmth: float = 0.0


@dataclass
class _Uploaded:
    layer: Layer
    array: Any
    buffers: list[Any] = field(default_factory=list)


class Renderer:
    """An OpenGL context that draws one person at a time, in pictures of one size.

    Not for several threads.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        """Set it up.

        Args:
            size: width and height in pixels of what is drawn.

        Raises:
            DatasetError: moderngl is not installed, or no OpenGL 3.3 can be had.
        """
        try:
            import moderngl as gl
        except ImportError:
            raise DatasetError(
                f"drawing people needs moderngl: {how_to_install('moderngl')}"
            ) from None
        moderngl: Any = gl  # its types do not know that a backend has a name
        try:
            self._context: Any = moderngl.create_context(
                standalone=True, backend="egl", require=330
            )
            samples = min(SAMPLES, self._context.max_samples)
            self._many = self._context.framebuffer(
                self._context.renderbuffer(size, samples=samples),
                self._context.depth_renderbuffer(size, samples=samples),
            )
            self._one = self._context.framebuffer(self._context.renderbuffer(size))
            self._program = self._context.program(vertex_shader=VERTEX, fragment_shader=FRAGMENT)
        except Exception as error:  # moderngl and glcontext raise bare Exception
            raise DatasetError(
                f"no OpenGL 3.3 can be had (Debian: libegl1 libgl1-mesa-dri): {error}"
            ) from error
        self._context.enable(moderngl.DEPTH_TEST)
        self._cull = moderngl.CULL_FACE
        self.size = size
        self._bones = self._context.buffer(reserve=BONES * 64)
        self._bones.bind_to_uniform_block(0)
        block: Any = self._program["Bones"]
        block.binding = 0
        self._textures: dict[str, Any] = {}
        self._prints = [self._context.texture((96, 96), 4) for _ in range(2)]
        self._white = self._context.texture((1, 1), 4, b"\xff" * 4)
        self._layers: list[_Uploaded] = []
        self._tints: Mapping[str, RGB] = {}

    def take(self, layers: Sequence[Layer]) -> None:
        """Load one person's layers, and free the previous person's."""
        for old in self._layers:
            old.array.release()
            for buffer in old.buffers:
                buffer.release()
        self._layers = []
        for layer in layers:
            vertices = self._context.buffer(layer.part.vertices.tobytes())
            indices = self._context.buffer(_seen(layer).tobytes())
            names = ("at", "normal", "place", "bones", "weights", "limbs", "marks")
            array = self._context.vertex_array(
                self._program, [(vertices, "3f 3f 2f 4f 4f 2f 2f", *names)], indices
            )
            if layer.part.vertices.shape[1] != ATTRIBUTES:
                raise ValueError(f"expected {ATTRIBUTES} numbers a vertex")
            self._layers.append(_Uploaded(layer, array, [vertices, indices]))

    def wear(self, dress: Dress) -> None:
        """Set the colours of the loaded person."""
        program = self._program
        self._tints = dress.tints
        for number, (name, cloth) in enumerate(zip(("top", "bottom"), dress.cloths, strict=True)):
            self._prints[number].write(cloth.print.tobytes())
            _set(program, f"{name}_base", linear(cloth.base))
            _set(program, f"{name}_accent", linear(cloth.accent))
            _set(program, f"{name}_kind", cloth.kind)
            _set(program, f"{name}_how", (cloth.scale, cloth.share, cloth.texture, cloth.folds))
            _set(program, f"{name}_logo", (*cloth.logo_size, float(cloth.logo), float(cloth.trim)))
        _set(program, "sleeves", dress.sleeves)
        _set(program, "legs", dress.legs)
        _set(program, "straps", dress.straps)
        _set(program, "strap", linear(dress.strap))
        _set(program, "heights", (dress.chest, dress.neck, dress.middle, dress.hip))
        _set(program, "tights", (*linear(dress.tights), 1.0) if dress.tights else (0.0,) * 4)
        _set(program, "veiled", dress.veiled)
        _set(program, "one", int(dress.one))
        _set(program, "bare", int(dress.bare))
        _set(program, "seed", dress.seed)

    def draw(
        self,
        bones: NDArray[np.float32],
        view: View,
        *,
        height: float,
        fill: float = FILL,
        flat: bool = False,
    ) -> Picture:
        """A picture [H, W, 4] of who was taken, colours as they are where it covers, not
        multiplied; nothing where it does not.

        Args:
            bones: [B, 4, 4], at most `BONES`.
            height: decimetres.
            fill: share of the picture's height that it fills.
            flat: draw the shadow on the ground instead: its coverage, without colour.
        """
        self._many.use()
        self._many.clear(0, 0, 0, 0)
        self._bones.write(np.ascontiguousarray(bones.transpose(0, 2, 1)).tobytes())
        program = self._program
        matrix = camera_matrix(view, height, self.size, fill=fill, flat=flat)
        _set(program, "camera", _flat(matrix))
        _set(program, "turned", _flat(_yaw(view.facing)[:3, :3]))
        _set(program, "sun", view.sun)
        _set(program, "light", (view.sunshine, view.sky, view.warmth))
        _set(program, "texture_", 0)
        _set(program, "top_print", 1)
        _set(program, "bottom_print", 2)
        for number, texture in enumerate(self._prints):
            texture.use(1 + number)
        for uploaded in self._layers:
            layer = uploaded.layer
            self._texture(layer).use(0)
            _set(program, "what", layer.what)
            _set(program, "levels", layer.levels)
            _set(program, "tint", linear(self._tints.get(layer.role, (1.0, 1.0, 1.0))))
            _set(program, "strength", layer.strength)
            _set(program, "between", (layer.from_height, layer.to_height))
            # Half of the time goes into triangles that nobody sees; hair and skirts have two sides.
            closed = layer.what != HAIR and layer.role != "skirt"
            (self._context.enable if closed else self._context.disable)(self._cull)
            uploaded.array.render()
        self._context.copy_framebuffer(self._one, self._many)
        raw = np.frombuffer(self._one.read(components=4), np.uint8)
        pixels = raw.reshape(self.size[1], self.size[0], 4)[::-1].astype(np.float32)
        cover = pixels[..., 3:] / 255
        pixels[..., :3] /= np.maximum(cover, 1e-3)
        return pixels.clip(0, 255).astype(np.uint8)

    def _texture(self, layer: Layer) -> Any:
        if layer.texture is None:
            return self._white
        if layer.key not in self._textures:
            height, width = layer.texture.shape[:2]
            texture = self._context.texture((width, height), 4, layer.texture.tobytes())
            texture.build_mipmaps()
            self._textures[layer.key] = texture
        return self._textures[layer.key]


def _seen(layer: Layer) -> NDArray[np.int32]:
    """Triangles without those of skin that is covered, except on arms and legs, which cloth may
    leave bare."""
    if layer.what != SKIN:
        return layer.part.triangles
    vertices = layer.part.vertices
    arm, leg = vertices[:, LIMBS].T
    hidden = (vertices[:, COVERED] > 0.5) & ((arm < 0.3) & (leg < 0.3) | (leg > IN_SHOES))
    bare: NDArray[np.int32] = layer.part.triangles[~hidden[layer.part.triangles].all(axis=1)]
    return bare


def linear(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """The linear light of an sRGB colour, both in [0, 1]."""
    red, green, blue = (max(0.0, value) ** 2.2 for value in colour)
    return red, green, blue


def camera_matrix(
    view: View,
    height: float,
    size: tuple[int, int],
    *,
    fill: float = FILL,
    flat: bool = False,
) -> NDArray[np.float32]:
    """The projection of a person at the origin into the picture, [4, 4].

    Args:
        height, fill, flat: as in `Renderer.draw`.
        size: width and height in pixels.
    """
    pitch = np.radians(view.pitch)
    cos, sin = np.cos(pitch), np.sin(pitch)
    look = np.eye(4)
    look[1, 1], look[1, 2], look[2, 1], look[2, 2] = cos, -sin, sin, cos
    middle = np.eye(4)
    middle[1, 3] = -height / 2
    back = np.eye(4)
    back[2, 3] = -view.distance
    focal = 2 * fill * view.distance / height
    near, far = view.distance * 0.3, view.distance * 2
    lens = np.zeros((4, 4))
    lens[0, 0] = focal * size[1] / size[0]
    lens[1, 1] = focal
    lens[2, 2] = (far + near) / (near - far)
    lens[2, 3] = 2 * far * near / (near - far)
    lens[3, 2] = -1
    down = np.eye(4)
    if flat:
        down[:, 1] = [-view.sun[0] / view.sun[1], 0, -view.sun[2] / view.sun[1], 0]
    return np.asarray(lens @ back @ look @ middle @ down @ _yaw(view.facing), np.float32)


def _yaw(degrees: float) -> NDArray[np.float64]:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = cos, sin, -sin, cos
    return turn


def _flat(matrix: NDArray[Any]) -> tuple[float, ...]:
    """The bytes of a matrix, column by column, as the shader takes them."""
    return tuple(float(value) for value in matrix.T.ravel())


def _set(program: Any, name: str, value: Any) -> None:
    if name in program:  # what the compiler found unused is not there
        program[name].value = value
