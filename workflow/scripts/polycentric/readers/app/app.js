"use strict";
/* Offline reader study: 2D canvas, no library, no request. Answers: schema rs-answers/1. */
const RS = (() => {
  let study = null, reader = "", order = [], answers = {}, at = 0, shownAt = 0, level = 0, width = 0, pixels = null;
  const data = {};
  const $ = (id) => document.getElementById(id);

  /* SHA-256 in plain JavaScript: crypto.subtle is absent on http intranet hosts */
  const sha256 = (text) => {
    const bytes = new TextEncoder().encode(text), K = [], H = [];
    const prime = (n) => { for (let i = 2; i * i <= n; i++) if (n % i === 0) return false; return true; };
    const fraction = (x) => ((x - Math.floor(x)) * 4294967296) | 0;
    for (let n = 2; K.length < 64; n++) if (prime(n)) { if (H.length < 8) H.push(fraction(Math.sqrt(n))); K.push(fraction(Math.cbrt(n))); }
    const length = ((bytes.length + 8) >> 6 << 6) + 64, block = new DataView(new ArrayBuffer(length));
    bytes.forEach((b, i) => block.setUint8(i, b));
    block.setUint8(bytes.length, 128);
    block.setUint32(length - 8, Math.floor(bytes.length / 536870912));
    block.setUint32(length - 4, bytes.length << 3);
    const rotate = (x, n) => (x >>> n) | (x << (32 - n)), w = new Int32Array(64);
    for (let offset = 0; offset < length; offset += 64) {
      for (let i = 0; i < 64; i++) w[i] = i < 16 ? block.getInt32(offset + 4 * i) :
        w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >>> 3)) + w[i - 7] +
        (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >>> 10));
      let [a, b, c, d, e, f, g, h] = H;
      for (let i = 0; i < 64; i++) {
        const one = (h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
        const two = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
        h = g; g = f; f = e; e = (d + one) | 0; d = c; c = b; b = a; a = (one + two) | 0;
      }
      [a, b, c, d, e, f, g, h].forEach((v, i) => { H[i] = (H[i] + v) | 0; });
    }
    return H.map((v) => (v >>> 0).toString(16).padStart(8, "0")).join("");
  };
  const canonical = (v) => Array.isArray(v) ? "[" + v.map(canonical).join(",") + "]" :
    v && typeof v === "object" ? "{" + Object.keys(v).sort().map((k) => JSON.stringify(k) + ":" + canonical(v[k])).join(",") + "}" :
    JSON.stringify(v);

  const place = () => `polycentric:${study.study}:${study.build}:${reader}`;
  const keep = () => { try { localStorage.setItem(place(), JSON.stringify(answers)); } catch { /* full or forbidden */ } };
  const record = () => {
    const result = {
      schema: study.schema, study: study.study, build: study.build, reader,
      answers: order.filter((i) => answers[i] && answers[i].answer).map((i) => ({ item: i, ...answers[i] })),
      complete: order.every((i) => answers[i] && answers[i].answer),
    };
    result.sha256 = sha256(canonical(result));
    return result;
  };
  const say = (text) => { $("message").textContent = text; };

  const draw = () => {
    if (!pixels) return;
    const n = study.size, canvas = $("image"), context = canvas.getContext("2d"), image = context.createImageData(n, n);
    const low = level - width / 2, scale = 255 / width;
    for (let i = 0; i < n * n; i++) {
      const v = (pixels[i] - low) * scale;
      image.data[4 * i] = image.data[4 * i + 1] = image.data[4 * i + 2] = v;
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    $("level").value = level; $("width").value = width;
  };
  const reset = () => { level = (study.window[0] + study.window[1]) / 2; width = study.window[1] - study.window[0]; };
  const clock = () => {
    const item = order[at];
    if (shownAt && item) {
      answers[item] = answers[item] || { answer: "", active_ms: 0, visits: 0 };
      answers[item].active_ms += Math.round(performance.now() - shownAt);
    }
    shownAt = document.hidden ? 0 : performance.now();
  };
  const show = (index) => {
    const answered = order.filter((i) => answers[i] && answers[i].answer).length;
    $("progress").value = answered; $("progress").max = order.length;
    at = index;
    if (at >= order.length) { finish(); return; }
    const item = order[at], text = atob(data[item]), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const view = new DataView(bytes.buffer);
    pixels = new Int16Array(text.length / 2);
    for (let i = 0; i < pixels.length; i++) pixels[i] = view.getInt16(2 * i, true);
    answers[item] = answers[item] || { answer: "", active_ms: 0, visits: 0 };
    answers[item].visits += 1;
    $("count").textContent = `${at + 1} of ${order.length}`;
    for (const button of $("choices").children) button.setAttribute("aria-pressed", String(button.value === answers[item].answer));
    $("back").disabled = at === 0;
    reset(); draw();
    shownAt = performance.now();
    $("reading").hidden = false; $("end").hidden = true;
  };
  const answer = (value) => {
    if ($("reading").hidden) return;
    clock();
    answers[order[at]].answer = value;
    keep();
    show(at + 1);
  };
  const finish = () => {
    shownAt = 0;
    const missing = order.findIndex((i) => !(answers[i] && answers[i].answer));
    if (missing >= 0) { show(missing); return; }
    $("reading").hidden = true; $("end").hidden = false;
    $("thanks").textContent = `Thank you: all ${order.length} images are answered.`;
    $("receipt").textContent = record().sha256.slice(0, 12);
    $("saveend").focus();
  };
  const save = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(record(), null, 1)], { type: "application/json" }));
    link.download = `answers-${study.study}-${reader}.json`;
    link.click();
    URL.revokeObjectURL(link.href);
    say(`Saved ${record().answers.length} of ${order.length} answers.`);
  };
  const begin = (code) => {
    reader = code;
    order = study.items.map((i) => [sha256(`${study.build}|${reader}|${i}`), i]).sort((a, b) => (a[0] < b[0] ? -1 : 1)).map((p) => p[1]);
    try { answers = { ...JSON.parse(localStorage.getItem(place()) || "{}"), ...answers }; } catch { /* forbidden */ }
    $("start").hidden = true;
    const first = order.findIndex((i) => !(answers[i] && answers[i].answer));
    show(first < 0 ? order.length : first);
    $("image").focus();
  };
  const resume = async (file) => {
    try {
      const given = JSON.parse(await file.text());
      const { sha256: sealed, ...rest } = given;
      if (given.study !== study.study || given.build !== study.build) { say("This file belongs to another reader study."); return; }
      if (sha256(canonical(rest)) !== sealed) { say("This file was changed after it was saved."); return; }
      answers = Object.fromEntries(given.answers.map(({ item, ...a }) => [item, a]));
      begin(given.reader);
    } catch { say("This is not a file of saved answers."); }
  };

  const start = () => {
    const canvas = $("image");
    canvas.width = canvas.height = study.size;
    $("title").textContent = `Reader study: ${study.study}`;
    $("question").textContent = $("ask").textContent = study.question;
    for (const choice of study.choices) {
      const button = document.createElement("button");
      button.type = "button"; button.value = choice.answer;
      button.textContent = `${choice.key} · ${choice.label}`;
      button.addEventListener("click", () => answer(choice.answer));
      $("choices").append(button);
    }
    const [low, high] = study.range;
    Object.assign($("level"), { min: low, max: high });
    Object.assign($("width"), { min: 1, max: high - low });
    $("level").addEventListener("input", (e) => { level = Number(e.target.value); draw(); });
    $("width").addEventListener("input", (e) => { width = Number(e.target.value); draw(); });
    $("gate").addEventListener("submit", (e) => { e.preventDefault(); begin($("reader").value.trim()); });
    $("resume").addEventListener("change", (e) => { if (e.target.files[0]) resume(e.target.files[0]); });
    $("back").addEventListener("click", () => { clock(); show(at - 1); });
    $("save").addEventListener("click", save);
    $("saveend").addEventListener("click", save);
    $("review").addEventListener("click", () => show(0));
    canvas.addEventListener("pointermove", (e) => {
      if (!e.buttons) return;
      level += e.movementY; width = Math.max(1, width + 2 * e.movementX); draw();
    });
    canvas.addEventListener("dblclick", () => { reset(); draw(); });
    document.addEventListener("visibilitychange", () => { if (!$("reading").hidden) clock(); });
    document.addEventListener("keydown", (e) => {
      if ($("reading").hidden || e.repeat || e.ctrlKey || e.metaKey || e.altKey || e.target.tagName === "INPUT") return;
      const choice = study.choices.find((c) => c.key === e.key);
      if (choice) answer(choice.answer);
      else if (e.key === "ArrowLeft" && at > 0) { clock(); show(at - 1); }
    });
  };
  document.addEventListener("DOMContentLoaded", start);
  return { study: (s) => { study = s; }, put: (id, text) => { data[id] = text; }, sha256, record };
})();
