"use strict";
// Shows /openapi.json. All text goes through textContent, never through HTML.

function element(name, text, parent, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  if (parent) parent.append(made);
  return made;
}

function typeName(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const choices = schema.anyOf || schema.oneOf;
  if (choices) return choices.map(typeName).join(" | ");
  if (schema.type === "array") return typeName(schema.items) + "[]";
  if (schema.contentMediaType === "application/octet-stream") return "file";
  return schema.type || "any";
}

function table(rows, parent) {
  const made = element("table", undefined, parent);
  for (const cells of rows) {
    const row = element("tr", undefined, made);
    for (const cell of cells) element("td", cell, row);
  }
}

function fields(schema, parent, schemas, depth) {
  if (schema.$ref) {
    const name = typeName(schema);
    const box = element("details", undefined, parent);
    element("summary", name, box);
    if (schemas[name].description) element("p", schemas[name].description, box);
    if (depth < 4) fields(schemas[name], box, schemas, depth + 1);
    return;
  }
  const rows = Object.entries(schema.properties || {}).map(([name, field]) => [
    name + ((schema.required || []).includes(name) ? " *" : ""),
    typeName(field) + (field.default !== undefined ? " = " + JSON.stringify(field.default) : ""),
    field.description || "",
  ]);
  if (rows.length) table(rows, parent);
  const inner = [...Object.values(schema.properties || {}), ...(schema.anyOf || [])];
  for (const field of inner) {
    for (const part of [field, field.items || {}, ...(field.anyOf || [])]) {
      const target = part.$ref ? part : (part.items || {});
      if (target.$ref) fields(target, parent, schemas, depth);
    }
  }
}

function route(method, path, operation, schemas, parent, contents) {
  const id = method + path;
  const link = element("a", method.toUpperCase().padEnd(7) + path, contents);
  link.href = "#" + encodeURIComponent(id);
  const section = element("section", undefined, parent);
  section.id = encodeURIComponent(id);
  const title = element("h2", undefined, section);
  element("span", method.toUpperCase(), title, "method");
  element("span", path, title);
  element("div", operation.summary + " · scope: " + operation["x-required-scope"], section, "scope");
  if (operation.description) element("p", operation.description, section);
  if (operation.parameters) {
    table(operation.parameters.map((one) => [
      one.name + (one.required ? " *" : ""),
      one.in + ", " + typeName(one.schema)
        + (one.schema.default !== undefined ? " = " + JSON.stringify(one.schema.default) : ""),
      one.description || one.schema.description || "",
    ]), section);
  }
  for (const [media, body] of Object.entries((operation.requestBody || {}).content || {})) {
    element("p", "Body: " + media, section);
    fields(body.schema, section, schemas, 0);
  }
  for (const [status, answer] of Object.entries(operation.responses)) {
    if (status === "default") continue;
    element("p", status + ": " + answer.description, section);
    for (const body of Object.values(answer.content || {})) {
      if (body.schema) fields(body.schema, section, schemas, 0);
    }
  }
}

async function show() {
  const about = document.getElementById("about");
  try {
    const answer = await fetch("openapi.json");
    const api = await answer.json();
    about.textContent = api.info.description;
    for (const [path, operations] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        route(method, path, operation, api.components.schemas,
          document.getElementById("routes"), document.getElementById("contents"));
      }
    }
  } catch (error) {
    about.textContent = "The description could not be loaded: " + error.message;
  }
}

show();
