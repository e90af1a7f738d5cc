// What a search asks: its queries and filters, as the API takes them and as an address keeps them.

import { contentPath, cropPath, pictures, thumbnails } from "./api.js";

export const NO_FILTERS = {
  cameras: [], from: "", to: "", tags: [], minScore: "", fmr: "", group: "image", fusion: "max", limit: 20,
};

const round = (value) => Math.round(value * 10) / 10;

/** A query is {detection}, {image, box}, {image, crop: true}, {file, url, box} or {file, url, crop: true}. */
export const isStored = (query) => Boolean(query.detection || query.image);

/** The address of a search of stored things; null when a picture of it is in this tab alone. */
export function addressOf(queries, filters) {
  if (!queries.every(isStored)) return null;
  const values = new URLSearchParams();
  for (const query of queries) {
    if (query.detection) values.append("person", query.detection);
    else if (query.crop) values.append("picture", query.image);
    else values.append("box", `${query.image}:${["x1", "y1", "x2", "y2"].map((side) => round(query.box[side])).join(",")}`);
  }
  filters.cameras.forEach((name) => values.append("camera", name));
  filters.tags.forEach((name) => values.append("tag", name));
  for (const [name, key] of [["from", "from"], ["to", "to"], ["min", "minScore"], ["fmr", "fmr"],
    ["per", "group"], ["fusion", "fusion"], ["limit", "limit"]]) {
    if (String(filters[key]) !== String(NO_FILTERS[key])) values.set(name, filters[key]);
  }
  const text = values.toString();
  return `#/search${text ? "?" + text : ""}`;
}

/** The queries and filters of an address. What cannot be read in it is left out. */
export function readAddress(values) {
  const queries = [];
  for (const [name, value] of values) {
    if (name === "person") queries.push({ detection: value });
    if (name === "picture") queries.push({ image: value, crop: true });
    if (name === "box") {
      const [image, sides] = value.split(":");
      const [x1, y1, x2, y2] = (sides || "").split(",").map(Number);
      if ([x1, y1, x2, y2].every(Number.isFinite)) queries.push({ image, box: { x1, y1, x2, y2 } });
    }
  }
  const one = (name, key, allowed) => {
    const value = values.get(name);
    return value !== null && allowed.test(value) ? value : NO_FILTERS[key];
  };
  return {
    queries,
    filters: {
      cameras: values.getAll("camera"),
      tags: values.getAll("tag"),
      from: one("from", "from", /^\d{4}-/),
      to: one("to", "to", /^\d{4}-/),
      minScore: one("min", "minScore", /^-?\d*\.?\d+$/),
      fmr: one("fmr", "fmr", /^\d*\.?\d+(e-\d+)?$/),
      group: one("per", "group", /^(image|detection)$/),
      fusion: one("fusion", "fusion", /^(max|mean)$/),
      limit: Number(one("limit", "limit", /^\d{1,4}$/)),
    },
  };
}

/** The body of POST /search: {json}, or {form} with the files. */
export function requestOf(queries, filters) {
  const files = [];
  const asked = queries.map((query) => {
    if (query.detection) return { detection_id: query.detection };
    const where = query.crop ? { crop: true } : { box: query.box };
    if (query.image) return { image_id: query.image, ...where };
    if (!files.includes(query.file)) files.push(query.file);
    return { image: files.indexOf(query.file), ...where };
  });
  const wanted = {
    queries: asked,
    fusion: filters.fusion,
    limit: filters.limit,
    group_by: filters.group,
    filter: {
      ...(filters.cameras.length && { camera_id: { in: filters.cameras } }),
      ...((filters.from || filters.to) && {
        captured_at: { ...(filters.from && { from: filters.from }), ...(filters.to && { to: filters.to }) },
      }),
      ...(filters.tags.length && { tags: { all: filters.tags } }),
    },
    ...(filters.minScore !== "" && { min_score: Number(filters.minScore) }),
    ...(filters.fmr !== "" && { max_fmr: Number(filters.fmr) }),
  };
  if (!files.length) return { json: wanted };
  const form = new FormData();
  files.forEach((file) => form.append("image", file, "query"));
  form.append("request", JSON.stringify(wanted));
  return { form };
}

/** The URL of a picture of the person that a query asks for. */
export async function cropUrl(query) {
  if (query.cropUrl) return query.cropUrl;
  if (query.detection) return thumbnails.url(cropPath(query.detection));
  const whole = query.url || await pictures.url(contentPath(query.image));
  if (query.crop) return whole;
  const image = new Image();
  image.src = whole;
  await image.decode();
  const { x1, y1, x2, y2 } = query.box;
  const canvas = document.createElement("canvas");
  const scale = Math.min(1, 256 / (y2 - y1));
  canvas.width = Math.max(1, Math.round((x2 - x1) * scale));
  canvas.height = Math.max(1, Math.round((y2 - y1) * scale));
  canvas.getContext("2d").drawImage(image, x1, y1, x2 - x1, y2 - y1, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.9); });
  query.cropUrl = URL.createObjectURL(blob);
  return query.cropUrl;
}

/** Give a query's own pictures back. */
export function forget(query) {
  if (query.cropUrl) URL.revokeObjectURL(query.cropUrl);
  query.cropUrl = null;
}

/** A time of an input for local times, as the API takes it, and back. */
export const toUtc = (local) => (local ? new Date(local).toISOString() : "");
export function toLocal(utc) {
  if (!utc || Number.isNaN(Date.parse(utc))) return "";
  const time = new Date(utc);
  return new Date(time - time.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}
