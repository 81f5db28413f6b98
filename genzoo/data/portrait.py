"""Draws portraits from parameters: the pictures of the `faces` dataset.

A head is an egg-shaped surface of which every pixel knows its place. Features are painted on it in frontal coordinates
(so yaw and pitch foreshorten them), a height map of nose, brows, cheeks and lips bends its normals, and a key light
and a sky light shade it. All images of a batch are drawn at once; edges are antialiased by their distance in pixels.
"""

import numpy as np

# Pictures are 3 b h w, masks and coordinates b h w, parameters b 1 1, colours 3 b 1 1; float32, colours linear (sRGB
# squared). The picture spans [-1, 1] in x (right) and y (down); the head is about 0.9 wide and 1.3 high.
Array = np.ndarray

HEIGHT, DEPTH = 0.66, 0.55  # half height of the head, and how far its face bulges towards the viewer
EYE, BROW, NOSE, MOUTH = 0.0, -0.135, 0.2, 0.365  # heights on the face


def draw(face: dict[str, Array], size: int) -> Array:
    """Parameters (see `faces.parameters`) -> uint8 b size size 3."""
    portrait = _Portrait(face, size)
    portrait.background()
    portrait.hair_behind()
    portrait.body()
    portrait.head()
    portrait.hair_in_front()
    portrait.glasses()
    pixels = np.sqrt(np.clip(portrait.rgb, 0, 1)) * 255 + 0.5  # back to (nearly) sRGB
    return np.ascontiguousarray(pixels.astype(np.uint8).transpose(1, 2, 3, 0))


def _bump(x: Array, y: Array, width: Array | float, height: Array | float) -> Array:
    """A smooth hill at the origin: 1 at its top, 0 beyond an ellipse of these half axes."""
    return np.square(np.maximum(0, 1 - np.square(x / width) - np.square(y / height)))


def _colour(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float32)[:, None, None, None]


def _ramp(x: Array, low: Array | float, high: Array | float) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _unit(vectors: Array) -> Array:
    return vectors / np.sqrt(np.square(vectors).sum(0))


class _Portrait:
    def __init__(self, face: dict[str, Array], size: int):
        self.face = face
        self.px = np.float32(2 / size)
        ticks = (np.arange(size, dtype=np.float32) + 0.5) * self.px - 1
        self.X, self.Y = ticks[None, None, :], ticks[None, :, None]
        # The head's own frame: centred and upright.
        cos, sin = np.cos(face["roll"]), np.sin(face["roll"])
        x, y = (self.X - face["x"]) / face["scale"], (self.Y - face["y"]) / face["scale"]
        self.x, self.y = x * cos + y * sin, y * cos - x * sin
        self.rgb = np.zeros((3, len(cos), size, size), np.float32)
        light = np.stack([face["light_x"], face["light_y"], np.full_like(face["light_x"], 0.75)])
        self.light = _unit(light)
        self._surface()

    def _surface(self) -> None:
        """Outline of the head, its normals, and the frontal coordinates p, q of every pixel on it."""
        face, x, y = self.face, self.x, self.y
        t = y / HEIGHT
        below = np.maximum(t, 0)
        width = face["width"] * (1 - face["taper"] * below * below)
        u = x / width
        self.r = np.sqrt(u * u + np.abs(t) ** (2 + 0.6 * face["jaw"]))
        z = np.sqrt(np.maximum(1 - self.r * self.r, 0))
        cos, sin = np.cos(face["yaw"]), np.sin(face["yaw"])
        self.p = x * cos - DEPTH * z * sin
        self.q = y - DEPTH * z * np.sin(face["pitch"])
        self.normal = np.stack([u * 1.1, t * 0.9, z + 0.12])
        self.on_head = self._inside(self.r - 1)

    def _inside(self, field: Array) -> Array:
        """Antialiased mask of field < 0, by its distance to the zero line in pixels."""
        dy, dx = np.gradient(field, axis=(1, 2))
        return np.clip(0.5 - field / (np.sqrt(dx * dx + dy * dy) + 1e-6), 0, 1)

    def _band(self, value: Array, low: Array | float, high: Array | float) -> Array:
        """Antialiased mask of low < value < high."""
        px = self.px / self.face["scale"]
        return np.clip((value - low) / px + 0.5, 0, 1) * np.clip((high - value) / px + 0.5, 0, 1)

    def _disc(self, x: Array, y: Array, radius: Array | float) -> Array:
        return np.clip((radius - np.sqrt(x * x + y * y)) / self.px * self.face["scale"] + 0.5, 0, 1)

    def _over(self, colour: Array, alpha: Array, on: Array | None = None) -> None:
        """Lay a colour (or picture) over the picture, or over another one."""
        on = self.rgb if on is None else on
        on += alpha * (colour - on)

    def _shade(self, x: Array, y: Array | float, z: Array | float, wrap: float = 0.25) -> Array:
        """Light on a surface with that normal: sky from above, key light wrapped a little around the edge. 3 b h w."""
        scale = 1 / np.sqrt(x * x + y * y + z * z + 1e-6)
        lx, ly, lz = self.light
        key = np.maximum(0, ((x * lx + y * ly + z * lz) * scale + wrap) / (1 + wrap))
        sky = 0.75 - 0.25 * y * scale
        return self.face["sky"] * sky + self.face["key"] * key

    def background(self) -> None:
        face = self.face
        along = 0.5 + 0.5 * (self.X * face["background_x"] + self.Y * face["background_y"])
        self.rgb += face["background"]
        self._over(face["background_2"], np.clip(along, 0, 1))
        self.rgb *= 0.8 + 0.5 * _bump(self.X - face["glow_x"], self.Y - face["glow_y"], 1.3, 1.3)

    def _hair_field(self, bottom: Array) -> Array:
        """Implicit outline of the hair mass, down to a height."""
        face, x, y = self.face, self.x, self.y
        wave = face["wave"] * np.sin(face["wave_rate"] * y + face["phase"] + np.sign(x)) * np.maximum(y + 0.2, 0)
        volume = face["volume"] * (1 - face["cropped"] * _ramp(y, -0.5, 0.1))
        half = face["width"] + 0.02 + volume + 0.25 * wave
        angle = x / (1.2 - np.minimum(y, 0.2))
        curl = 1 + face["curl"] * np.sin(28 * angle + 9 * y + face["phase"]) * np.sin(23 * angle - 11 * y)
        r = np.sqrt(np.square(x / half) + np.square(np.minimum(y + 0.02, 0) / (HEIGHT + face["volume"] * 0.8))) * curl
        ends = bottom + 0.03 * np.sin(21 * x + face["phase"]) - 0.15 * x * x
        return np.maximum(r - 1, (y - ends) * 1.5)

    def _hair_colour(self, crown: Array, q: Array) -> Array:
        """Shaded hair, its strands running away from a point above the head."""
        face = self.face
        half = face["width"] + 0.02 + face["volume"]
        u, t = self.x / half, self.y / (HEIGHT + face["volume"])
        z = np.sqrt(np.maximum(1 - u * u - np.minimum(t, 0) ** 2, 0.05))
        fan = (self.p - crown) / (1.15 + q)
        strands = np.sin(30 * fan + 4 * np.sin(5 * q + face["phase"])) + 0.7 * np.sin(67 * fan + face["phase"] + 3 * q)
        band = _bump(t + 0.5 + 0.05 * strands, u - 0.5 * self.light[0], 0.24, 0.9)
        light = self._shade(u, np.minimum(t, 0.3), z)
        colour = face["hair"] * (1 + face["strands"] * strands)
        return light * colour + face["gloss"] * band * (0.06 + colour) * face["key"]

    def hair_behind(self) -> None:
        face = self.face
        self.mass = self._inside(self._hair_field(face["length"])) * face["has_hair"]
        self.long_hair = self._hair_colour(face["part"], self.y) * (0.9 - 0.25 * _ramp(self.y, 0.1, 0.8))
        self.long_hair *= 0.45 + 0.55 * _ramp(np.abs(self.x), 0.1, face["width"] + 0.05)  # dark beside the neck
        self._over(self.long_hair, self.mass)

    def body(self) -> None:
        face = self.face
        x, y = (self.X - face["x"]) / face["scale"], (self.Y - face["y"]) / face["scale"]
        x = x + 0.45 * np.sin(face["roll"])
        skin = face["skin"] * (0.4 + 0.6 * _ramp(y, HEIGHT - 0.1, HEIGHT + 0.24))  # shadow of the chin
        half = face["neck"] + 0.5 * np.square(np.maximum(y - 0.62, 0))
        u = np.clip(x / half, -1, 1)
        neck = self._shade(u, 0.15, np.sqrt(1.05 - u * u))
        self._over(neck * skin, self._inside(np.abs(x) / half - 1) * (y > 0))
        shoulders = 0.83 + 0.34 * np.abs(x) ** 1.5 - 0.04 * face["masculine"]
        chest = self._shade(0.8 * x, -0.1, 0.7)
        self._over(chest * skin, self._band(y, shoulders, np.inf))
        neckline = shoulders - 0.02 + face["neckline"] * np.maximum(0, 1 - np.abs(x / 0.36) ** face["neckline_shape"])
        folds = 1 + 0.08 * np.sin(9 * x + 5 * y + face["phase"]) + face["stripes"] * np.sign(np.sin(26 * y))
        rim = 1 - 0.35 * _bump(y - neckline, 0 * x, 0.05, 1)
        self._over(chest * face["cloth"] * (folds * rim), self._band(y, neckline, np.inf))
        self._ears()
        locks = self.mass * _ramp(np.abs(self.x), face["width"] * 0.62, face["width"] * 0.8) * (self.y > 0)
        self._over(self.long_hair, locks)

    def _ears(self) -> None:
        face = self.face
        for side in (-1, 1):
            away = np.maximum(0, side * np.sin(face["yaw"]))
            x = self.x - side * (face["width"] * 0.97 - 0.3 * away)
            y = self.y - 0.05
            r = np.sqrt(np.square(x / 0.085) + np.square((y + 0.3 * side * x) / 0.13))
            hollow = 1 - 0.4 * _bump(x - 0.02 * side, y, 0.05, 0.085)
            light = self._shade(x / 0.12 + 0.3 * side, y / 0.3, 0.6)
            uncovered = np.maximum(face["cropped"], 1 - face["has_hair"])
            self._over(light * face["skin"] * hollow, self._inside(r - 1) * uncovered)

    def head(self) -> None:
        face, p, q = self.face, self.p, self.q
        smile = face["smile"]
        tex = np.broadcast_to(face["skin"], self.rgb.shape).copy()
        # Warmer cheeks, nose and ears; darker sockets and creases.
        cheeks = _bump(np.abs(p) - 0.24, q - 0.19, 0.2, 0.16) + 0.7 * _bump(p, q - NOSE, 0.1, 0.1)
        tex *= 1 + face["blush"] * cheeks * (face["flush"] - 1)
        sockets = _bump(np.abs(p) - 0.2, q - EYE - 0.01, 0.15, 0.1)
        crease = _bump(np.abs(p) - 0.17 - 0.35 * (q - NOSE), q - 0.29, 0.035, 0.12) * (0.25 + smile)
        under_lip = _bump(p, q - MOUTH - 0.105, 0.13, 0.05)
        tex *= 1 - 0.22 * sockets - 0.3 * face["age"] * crease - 0.18 * under_lip
        for paint, top, bottom in (
            (self._freckles, 0.0, 0.3),
            (self._beard, 0.15, 0.8),
            (self._brows, -0.35, 0.0),
            (self._mouth, 0.15, 0.6),
            (self._eyes, -0.2, 0.15),
        ):
            rows = np.flatnonzero(((q > top) & (q < bottom) & (self.r < 1)).any((0, 2)))
            some = slice(rows[0], rows[-1] + 1)  # painting elsewhere would be wasted time
            paint(tex[:, :, some], p[:, some], q[:, some])
        normal = self._bent_normal()
        lit = tex * self._shade(*normal) + self._sheen(normal)
        lit *= 1 - 0.45 * (1 - _ramp(q - self._hairline(), 0.0, 0.13)) * face["has_hair"]  # shadow of the hair
        self._over(lit, self.on_head)

    def _bent_normal(self) -> Array:
        """The head's normals, bent by a height map of the features."""
        face, p, q = self.face, self.p, self.q
        nose = face["nose"]
        ridge = _bump(p, q - 0.09, 0.085 * nose, 0.22) + 0.9 * _bump(p, q - NOSE + 0.01, 0.1 * nose, 0.09)
        wings = _bump(np.abs(p) - 0.075 * nose, q - NOSE - 0.01, 0.06, 0.06)
        brow = _bump(np.abs(p) - 0.17, q - BROW - 0.015, 0.2, 0.075)
        socket = _bump(np.abs(p) - 0.2, q - EYE, 0.15, 0.1)
        cheek = _bump(np.abs(p) - 0.27, q - 0.18 + 0.04 * face["smile"], 0.2, 0.17)
        lips = _bump(p, q - MOUTH, 0.22, 0.1)
        chin = _bump(p, q - 0.54, 0.17, 0.13)
        height = 0.085 * ridge + 0.04 * wings + 0.028 * brow * (0.5 + face["masculine"]) - 0.035 * socket
        height += (0.03 + 0.03 * face["smile"]) * cheek + 0.028 * lips + 0.035 * chin
        dy, dx = np.gradient(height, axis=(1, 2))
        bent = _unit(self.normal)
        bent[0] -= dx / self.px * face["scale"]
        bent[1] -= dy / self.px * face["scale"]
        return _unit(bent)

    def _sheen(self, normal: Array) -> Array:
        """Specular light on the skin (Blinn, exponent 16)."""
        half = _unit(self.light + np.float32([0, 0, 1])[:, None, None, None])
        spec = np.maximum(0, (normal * half).sum(0))
        for _ in range(4):
            spec = spec * spec
        return self.face["sheen"] * spec * self.face["key"]

    def _freckles(self, tex: Array, p: Array, q: Array) -> None:
        face = self.face
        where = _bump(np.abs(p) - 0.16, q - 0.15, 0.24, 0.13)
        dots = np.sin(63 * p + 7 * np.sin(41 * q + face["phase"])) * np.sin(71 * q + 5 * np.sin(37 * p))
        tex *= 1 - face["freckles"] * where * np.maximum(0, dots - 0.3) * _colour(0.35, 0.6, 0.75)

    def _beard(self, tex: Array, p: Array, q: Array) -> None:
        face = self.face
        cheekbone = np.maximum(np.abs(p) - 0.3, 0)
        jaw = _ramp(q, 0.22 - 0.9 * cheekbone, 0.36 - 0.6 * cheekbone)
        jaw = jaw * (1 - _bump(p, q - MOUTH, 0.21, 0.12) ** 0.5) * _ramp(np.abs(p) + q, 0.36, 0.5)
        moustache = np.minimum(1, 3 * _bump(p, q - 0.295 - 0.6 * p * p, 0.27, 0.055))
        self._over(face["hair"] * 0.9, face["beard"] * jaw, tex)
        self._over(face["hair"] * 0.9, face["moustache"] * moustache, tex)

    def _brows(self, tex: Array, p: Array, q: Array) -> None:
        face = self.face
        t = (np.abs(p) - 0.2) / 0.135  # -1 at the nose, 1 at the temple
        line = BROW + face["brow_height"] - face["brow_arch"] * (1 - t * t) + face["brow_slant"] * t
        half = face["brow"] * (1 - 0.45 * t) * np.sqrt(np.maximum(0, 1 - t * t) + 1e-6)
        self._over(face["brow_colour"], 0.9 * self._band(q - line, -half, half) * (np.abs(t) < 1), tex)

    def _eyes(self, tex: Array, p: Array, q: Array) -> None:
        face = self.face
        half, open_ = face["eye_width"], face["eye_open"]
        for side in (-1, 1):
            dx = p - side * face["eye_apart"]
            t = side * dx / half
            bow = np.maximum(0, 1 - t * t)
            dy = q - EYE + face["eye_slant"] * t
            upper = -open_ * bow * (1 - 0.15 * t)
            lower = open_ * bow * (0.62 + 0.12 * t - 0.25 * face["smile"])
            inside = self._band(dy, upper, lower) * (np.abs(t) < 1)
            eye = _colour(0.70, 0.69, 0.67) * (0.62 + 0.38 * _ramp(dy - upper, 0, 0.05)) * (1 - 0.25 * t * t)
            ix, iy = dx - face["gaze_x"], dy - face["gaze_y"]
            radius = 0.052
            iris = face["iris"] * (0.55 + 0.9 * _ramp(iy, -radius, radius))
            self._over(iris, self._disc(ix, iy, radius), eye)
            self._over(iris * 0.2, 0.6 * self._disc(ix, iy, radius) * (1 - self._disc(ix, iy, radius * 0.8)), eye)
            self._over(np.float32(0.004), self._disc(ix, iy, radius * 0.48), eye)
            glint = self._disc(ix - 0.02 * np.sign(self.light[0]), iy + 0.02, 0.014)
            self._over(np.float32(1.6), glint, eye)
            self._over(eye, inside, tex)
            lash = self._band(dy, upper - face["lash"], upper + 0.006) * (np.abs(t) < 1.08)
            self._over(face["lash_colour"], 0.9 * lash, tex)
            fold = self._band(dy, upper - face["lash"] - 0.035, upper - face["lash"] - 0.022) * (np.abs(t) < 0.9)
            tex *= 1 - 0.3 * fold
            tex *= 1 - 0.2 * self._band(dy, lower, lower + 0.012) * (np.abs(t) < 0.95)

    def _mouth(self, tex: Array, p: Array, q: Array) -> None:
        face = self.face
        smile, half = face["smile"], face["mouth_width"]
        t = p / half
        bow = np.maximum(0, 1 - t * t)
        line = MOUTH - smile * 0.06 * (t * t - 0.4)
        gap = face["mouth_open"] * bow
        cupid = 1 - 0.3 * _bump(t, 0 * t, 0.3, 1)
        top, bottom = line - gap * 0.35 - face["lip_upper"] * bow * cupid, line + gap + face["lip_lower"] * np.sqrt(bow)
        within = np.abs(t) < 1
        upper = self._band(q, top, line - gap * 0.35) * within
        lower = self._band(q, line + gap, bottom) * within
        inner = self._band(q, line - gap * 0.35, line + gap) * within
        self._over(face["lips"] * 0.8, upper, tex)
        self._over(face["lips"] * (1 + 0.3 * _bump(p, q - line - gap - 0.03, 0.1, 0.03)), lower, tex)
        teeth = np.float32(0.78) * (1 - 0.75 * t * t) * (1 - _ramp((q - line) / (gap + 1e-3), 0.45, 0.75))
        self._over(_colour(0.09, 0.02, 0.02) + np.maximum(teeth, 0), inner, tex)
        seam = self._band(q, line - gap * 0.35 - 0.007, line - gap * 0.35 + 0.009) * (np.abs(t) < 1.04)
        self._over(face["lips"] * 0.18, 0.75 * seam, tex)
        # The nostrils are drawn here too: they are the other dark openings.
        nostril = _bump(np.abs(p) - 0.045 * face["nose"], q - NOSE - 0.045, 0.035, 0.024)
        tex *= 1 - 0.75 * nostril
        tex *= 1 - 0.25 * _bump(p, q - NOSE - 0.065, 0.11 * face["nose"], 0.03)

    def _hairline(self) -> Array:
        """Height of the hairline at every pixel's p."""
        face, p = self.face, self.p
        sweep = face["sweep"] * np.abs(p - face["part"])
        zigzag = face["fringe"] * 0.022 * np.sin(34 * p + face["phase"])
        return face["hairline"] + sweep + zigzag + face["temple"] * _ramp(np.abs(p), 0.23, 0.46)

    def hair_in_front(self) -> None:
        face = self.face
        cap = self._inside(self._hair_field(face["sideburn"]))
        above = np.clip((self._hairline() - self.q) / (1.6 * self.px) + 0.5, 0, 1)
        self._over(self._hair_colour(face["part"], self.q), cap * above * face["has_hair"])

    def glasses(self) -> None:
        face, p, q = self.face, self.p, self.q
        x, y = np.abs(p) - face["eye_apart"], q - EYE - 0.02
        power = face["lens_shape"]
        r = (np.abs(x / face["lens_width"]) ** power + np.abs(y / face["lens_height"]) ** power) ** (1 / power)
        d = (r - 1) * face["lens_height"]
        rim = self._band(d, -face["rim"], face["rim"])
        bridge = self._band(y + 0.03, -face["rim"], face["rim"]) * (np.abs(p) < face["eye_apart"] - face["lens_width"])
        arm = self._band(y + 0.04, -face["rim"], face["rim"]) * (x > face["lens_width"]) * self.on_head
        shown = face["has_glasses"]
        self._over(face["tint"], shown * face["tint_strength"] * self._band(d, -np.inf, 0))
        shine = _bump(x - 0.3 * y, 0 * x, 0.03, 1) * self._band(d, -np.inf, 0)
        self.rgb += shown * 0.12 * shine
        self._over(face["rim_colour"], shown * np.clip(rim + bridge + arm, 0, 1) * _ramp(self.r, 1.25, 1.05))
