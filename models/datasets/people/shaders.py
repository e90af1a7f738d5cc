"""The shader programs (GLSL 3.30)."""

VERTEX = """
#version 330
layout(std140) uniform Bones { mat4 bone[256]; };
uniform mat4 camera;
uniform mat3 turned;
in vec3 at;
in vec3 normal;
in vec2 place;
in vec4 bones;
in vec4 weights;
in vec2 limbs;
in vec2 marks;
out vec3 rest;
out vec3 rest_normal;
out vec3 outwards;
out vec3 here;
out vec2 spot;
out vec2 limb;
out vec2 mark;
void main() {
    ivec4 b = ivec4(bones + 0.5);
    mat4 moved = bone[b.x] * weights.x + bone[b.y] * weights.y
        + bone[b.z] * weights.z + bone[b.w] * weights.w;
    vec4 now = moved * vec4(at, 1.0);
    rest = at;
    rest_normal = normal;
    outwards = turned * mat3(moved) * normal;
    here = turned * now.xyz;
    spot = place;
    limb = limbs;
    mark = marks;
    gl_Position = camera * now;
}
"""

FRAGMENT = """
#version 330
uniform int what;
uniform sampler2D texture_;
uniform sampler2D top_print;
uniform sampler2D bottom_print;
uniform vec2 levels;
uniform vec3 tint;
uniform float strength;
uniform vec2 between;
uniform vec3 top_base, top_accent, bottom_base, bottom_accent;
uniform int top_kind, bottom_kind;
uniform vec4 top_how, bottom_how;      // scale, share, texture, folds
uniform vec4 top_logo, bottom_logo;    // half width, half height, where, trim
uniform float sleeves, legs, veiled, seed;
uniform int straps;
uniform vec3 strap;
uniform vec4 heights;                  // chest, neck, middle, hip
uniform vec4 tights;                   // colour, 1 where there are any
uniform int bare;                      // whether the belly is
uniform int one;                       // whether top and skirt are one piece
uniform vec3 sun;
uniform vec3 light;                    // sunshine, sky, warmth
in vec3 rest;
in vec3 rest_normal;
in vec3 outwards;
in vec3 here;
in vec2 spot;
in vec2 limb;
in vec2 mark;
out vec4 colour;

float hash(vec3 p) {
    p = fract(p * 0.3183099 + 0.1 + seed * 0.013);
    p *= 17.0;
    return fract(p.x * p.y * p.z * (p.x + p.y + p.z));
}

float noise(vec3 p) {
    vec3 i = floor(p), f = fract(p);
    f = f * f * (3.0 - 2.0 * f);
    return mix(
        mix(mix(hash(i), hash(i + vec3(1, 0, 0)), f.x),
            mix(hash(i + vec3(0, 1, 0)), hash(i + vec3(1, 1, 0)), f.x), f.y),
        mix(mix(hash(i + vec3(0, 0, 1)), hash(i + vec3(1, 0, 1)), f.x),
            mix(hash(i + vec3(0, 1, 1)), hash(i + vec3(1, 1, 1)), f.x), f.y), f.z);
}

float weave(float at, float share) {
    // 1 where a stripe is; its edges as soft as a pixel is wide.
    float wide = max(fwidth(at), 0.002);
    float cell = fract(at);
    float inside = smoothstep(0.0, wide, cell) * (1.0 - smoothstep(share, share + wide, cell));
    return wide > 0.7 ? share : inside;
}

vec3 dyed(vec3 base, vec3 accent, int kind, vec4 how, vec4 logo, sampler2D ink, bool top) {
    bool front = rest_normal.z > 0.0;
    float across, down;
    if (limb.x > 0.0) { across = rest.z * 1.4; down = heights.x - limb.x * 2.6; }
    else if (limb.y > 0.3) {
        across = atan(rest.x - sign(rest.x) * 1.0, rest.z - heights.z) * 0.8; down = rest.y;
    }
    else { across = atan(rest.x, rest.z - heights.z) * 1.4; down = rest.y; }
    vec3 dye = base;
    if (kind == 1) dye = mix(base, accent, weave(down / how.x, how.y));
    else if (kind == 2) dye = mix(base, accent, weave(across / how.x, how.y));
    else if (kind == 3) {
        float a = weave(down / how.x, how.y), b = weave(across / how.x, how.y);
        dye = mix(base, accent, 0.5 * (a + b));
        dye = mix(dye, base * 0.4, 0.5 * weave(down / how.x + 0.4, 0.08));
    }
    else if (kind == 4) {
        vec4 inked = texture(ink, vec2(across, down) / how.x);
        dye = mix(base, pow(inked.rgb, vec3(2.2)), inked.a);
    }
    else if (kind == 5) {
        if (rest.y > heights.x - 0.3 + how.y && limb.x < 0.5) dye = accent;
    }
    else if (kind == 6) { if (limb.x > -0.4) dye = accent; }
    else if (kind == 7) {
        float wide = 0.25 + how.y * 0.9 * smoothstep(heights.x - 4.0, heights.y, rest.y);
        if (front && limb.x < 0.0 && abs(rest.x) < wide) dye = accent;
    }
    else if (kind == 8) {
        if (abs(rest.y - heights.x + 1.2) < how.y * 1.6 && limb.x < 0.0) dye = accent;
    }
    else if (kind == 9) {
        if (abs(rest.z - heights.z) < 0.22 && abs(rest_normal.x) > 0.6) dye = accent;
    }
    else if (kind == 10)
        dye = mix(base, accent, smoothstep(heights.x - 4.0, heights.x + 1.0, down));
    else if (kind == 11) dye = mix(base, accent, 0.5 * noise(rest * 14.0));
    int where = int(logo.z + 0.5);
    if (top && where > 0 && limb.x < 0.0 && ((front && where != 2) || (!front && where != 1))) {
        vec2 p = (vec2(front ? rest.x : -rest.x, rest.y - heights.x + 0.4) / logo.xy + 1.0) / 2.0;
        if (all(greaterThan(p, vec2(0.0))) && all(lessThan(p, vec2(1.0)))) {
            vec4 inked = texture(ink, p);
            dye = mix(dye, pow(inked.rgb, vec3(2.2)), inked.a);
        }
    }
    if (logo.w > 0.5) {
        if (top && (rest.y > heights.y - 0.15 || (limb.x > sleeves - 0.14 && limb.x > 0.1)
            || limb.x > 1.82)) dye = accent;
    }
    return dye;
}

vec3 cloth(bool top) {
    return top
        ? dyed(top_base, top_accent, top_kind, top_how, top_logo, top_print, true)
        : dyed(bottom_base, bottom_accent, bottom_kind, bottom_how, bottom_logo, bottom_print,
               false);
}

void main() {
    if (rest.y < between.x || rest.y > between.y) discard;
    if (what < 2 && limb.y > 0.0 && rest.y > veiled) discard;
    vec4 pixel = texture(texture_, spot);
    vec3 shown = pow(pixel.rgb, vec3(2.2));
    float bright = dot(pixel.rgb, vec3(0.3, 0.59, 0.11));
    vec3 out_ = normalize(outwards);
    if (!gl_FrontFacing) out_ = -out_;
    float shade = 1.0;
    float gloss = 0.0;
    bool past = limb.x > sleeves || limb.y > legs;
    if (what == 0) {
        if (mark.x > 0.5 && !past) discard;
        shown *= tint;
        gloss = 0.06;
        bool trunk = limb.x < 0.0 && limb.y < 0.3 && rest.y < heights.x - 0.3;
        if (trunk && bare == 0) {
            gloss = 0.0;
            shown = cloth(rest.y > heights.w + (one == 1 ? -0.6 : 1.1));
        } else if (limb.y > 0.0 && tights.a > 0.5) {
            shown = mix(tights.rgb, shown, 0.12);
        }
    } else if (what == 1) {
        if (past) discard;
        bool top = mark.y > 0.5 || (one == 1 && rest.y > heights.w - 0.6);
        vec4 how = top ? top_how : bottom_how;
        shown = cloth(top);
        float level = top ? levels.x : levels.y;
        shade = mix(1.0, clamp(pow(bright / level, 1.6), 0.3, 2.2), how.z);
        vec3 p = rest * vec3(1.1, 0.75, 1.1) + seed;
        float joint = exp(-pow((limb.y - 1.0) / 0.3, 2.0)) + exp(-pow((limb.x - 1.0) / 0.3, 2.0))
            + exp(-pow((limb.y - 1.9) / 0.25, 2.0));
        float fold = noise(p * 1.6) - 0.5 + 0.6 * (noise(p * vec3(3.0, 4.5, 3.0) + 7.0) - 0.5)
            + 0.9 * joint * (noise(vec3(p.x, rest.y * 3.2, p.z)) - 0.5);
        vec3 bend = vec3(noise(p * 2.2 + 11.0), noise(p * 2.2 + 23.0), noise(p * 2.2 + 37.0)) - 0.5;
        out_ = normalize(out_ + how.w * 0.9 * bend);
        shade *= 1.0 + 0.55 * how.w * fold;
        if (top && straps > 0 && limb.x < 0.15 && rest.y > heights.w) {
            bool belt = false;
            if (straps == 1) belt = rest_normal.z > -0.4 && abs(abs(rest.x) - 0.95) < 0.2
                && rest.y > heights.x - 1.6;
            else {
                float side = straps == 2 ? 1.0 : -1.0;
                vec2 along = normalize(vec2(2.0 * side, -5.0));
                vec2 from = vec2(rest.x + 1.0 * side, rest.y - heights.y + 0.3);
                belt = abs(from.x * along.y - from.y * along.x) < 0.13;
            }
            if (belt) { shown = strap; shade = 1.0; }
        }
    } else {
        if (what == 2 && pixel.a < 0.35) discard;
        shown = tint;
        shade = mix(1.0, clamp(bright / levels.x, 0.25, 2.5), strength);
        gloss = what == 2 ? 0.15 : 0.08;
    }
    if (!gl_FrontFacing) { shade *= 0.55; }
    // Light: the sun, the sky above, the ground below; less where little sky is seen.
    float facing = dot(out_, sun);
    float direct = max(0.0, facing * 0.85 + 0.15);
    vec3 warm = vec3(1.0 + 0.12 * light.z, 1.0, 1.0 - 0.16 * light.z);
    vec3 above = vec3(0.92, 0.98, 1.08) - 0.04 * light.z;
    vec3 below = vec3(0.46, 0.43, 0.40);
    vec3 around = mix(below, above, 0.5 + 0.5 * out_.y) * light.y;
    // Between the legs it is darker.
    float open = 1.0;
    if (what < 2 && limb.y >= 0.0 && out_.x * sign(rest.x) < 0.3)
        open -= 0.35 * exp(-pow((limb.y - 0.1) / 0.35, 2.0));
    open *= mix(0.72, 1.0, smoothstep(0.0, 6.0, here.y));
    vec3 lit = shown * shade * (light.x * direct * warm + around * open);
    vec3 middle = normalize(sun + vec3(0.0, 0.2, 1.0));
    lit += gloss * light.x * pow(max(0.0, dot(out_, middle)), 18.0);
    colour = vec4(pow(clamp(lit, 0.0, 1.0), vec3(1.0 / 2.2)), 1.0);
}
"""
