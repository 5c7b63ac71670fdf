// The annotation page. The prompts file (pipelines/segmentation/prompts.py) is the page's whole state; every change makes a new
// one, so that undo is a list of them. The server answers what the masks are under given prompts.
//
// Pixels: the centre of the top-left pixel is (0.5, 0.5), so canvas coordinates are pixel coordinates as they are.
(() => {
  "use strict";

  const element = (id) => document.getElementById(id);
  const picture = element("picture");
  const marks = element("marks");
  const message = element("message");

  let video = null;
  let prompts = null;
  let stored = null; // the prompts as they are in the file
  let past = [];
  let future = [];
  let selected = null;
  let frame = 0;
  let image = null;
  let overlay = null;
  let drag = null;
  let asked = 0;

  // ---- talking to the server ------------------------------------------------------------------------------------

  async function ask(path, content) {
    const options = content === undefined ? {} : { method: "POST", body: JSON.stringify(content) };
    const answer = await fetch(path, options);
    if (!answer.ok) throw new Error((await answer.json()).error);
    return answer.headers.get("Content-Type") === "image/png" ? createImageBitmap(await answer.blob()) : answer.json();
  }

  function say(text, bad = false) {
    message.textContent = text;
    message.classList.toggle("bad", bad);
  }

  async function refreshMasks() {
    const turn = ++asked;
    document.body.dataset.busy = "true";
    try {
      const answer = await ask(`api/labels/${frame}`, prompts);
      if (turn !== asked) return;
      overlay = answer;
      draw();
    } catch (error) {
      if (turn === asked) say(error.message, true);
    } finally {
      if (turn === asked) delete document.body.dataset.busy;
    }
  }

  async function show(t) {
    frame = Math.max(0, Math.min(video.frames - 1, t));
    element("time").value = frame;
    element("frame").textContent = frame;
    overlay = null;
    const wanted = frame;
    const loaded = await ask(`api/frames/${wanted}`);
    if (wanted !== frame) return;
    image = loaded;
    draw();
    await refreshMasks();
  }

  // ---- the prompts ----------------------------------------------------------------------------------------------

  function commit(next) {
    past.push(prompts);
    future = [];
    prompts = next;
    renderSteps();
  }

  function change(next) {
    commit(next);
    render();
    refreshMasks();
  }

  function travel(from, to) {
    if (!from.length) return;
    to.push(prompts);
    prompts = from.pop();
    if (!prompts.objects.some((one) => one.id === selected)) selected = null;
    render();
    refreshMasks();
  }

  const here = () => prompts.prompts.find((one) => one.object === selected && one.frame === frame);

  /** Add to what is said about the selected object in this frame. */
  function extend(addition) {
    if (selected === null) addObject();
    const old = here() ?? { object: selected, frame, points: [], box: null, strokes: [] };
    const fresh = {
      ...old,
      points: [...old.points, ...(addition.points ?? [])],
      strokes: [...old.strokes, ...(addition.strokes ?? [])],
      box: addition.box ?? old.box,
    };
    change({ ...prompts, prompts: [...prompts.prompts.filter((one) => one !== here()), fresh] });
  }

  function addObject() {
    const used = [...prompts.objects.map((one) => one.id), video.automatic.length - 1, 0];
    const id = Math.max(...used) + 1;
    selected = id;
    change({ ...prompts, objects: [...prompts.objects, { id, name: `object ${id}` }] });
  }

  /** A name changes no mask. Texts change in place: new rows would take the focus from the one that is clicked next. */
  function rename(id, name) {
    commit({ ...prompts, objects: prompts.objects.map((one) => (one.id === id ? { ...one, name } : one)) });
    for (const option of document.querySelectorAll(`#objects option[value="into ${id}"]`)) {
      option.textContent = `merge into ${name}`;
    }
  }

  /** Make an automatic object part of another one, or of the background, or neither again. */
  function assign(id, choice) {
    const background = prompts.background.filter((other) => other !== id);
    // What was merged into this object goes where it goes.
    const own = prompts.merge.find((ids) => ids[0] === id) ?? [id];
    const others = prompts.merge.filter((ids) => ids !== own).map((ids) => ids.filter((other) => other !== id));
    const merge = others.filter((ids) => ids.length > 1);
    const asked = choice.startsWith("into ") ? Number(choice.slice(5)) : id;
    const first = (merge.find((ids) => ids.slice(1).includes(asked)) ?? [asked])[0];
    if (choice === "background") background.push(id);
    if (own.includes(first)) {
      if (own.length > 1) merge.push(own);
    } else {
      const together = merge.find((ids) => ids[0] === first);
      if (together) together.push(...own);
      else merge.push([first, ...own]);
    }
    if (choice === "remove") return remove(id);
    change({ ...prompts, background, merge });
  }

  function remove(id) {
    selected = null;
    change({
      ...prompts,
      objects: prompts.objects.filter((one) => one.id !== id),
      prompts: prompts.prompts.filter((one) => one.object !== id),
    });
  }

  // ---- drawing --------------------------------------------------------------------------------------------------

  function draw() {
    const context = picture.getContext("2d");
    if (image) context.drawImage(image, 0, 0);
    if (overlay) {
      context.globalAlpha = element("opacity").value / 100;
      context.drawImage(overlay, 0, 0);
      context.globalAlpha = 1;
    }
    drawMarks();
  }

  function drawMarks() {
    const context = marks.getContext("2d");
    const scale = marks.width / video.width;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, video.width, video.height);
    const thin = 1.5 / Math.min(scale, marks.clientWidth / video.width || scale);
    for (const one of prompts.prompts.filter((p) => p.frame === frame)) {
      context.globalAlpha = one.object === selected ? 1 : 0.35;
      for (const point of one.points) cross(context, point, 4 * thin, thin);
      if (one.box) box(context, one.box, thin);
      for (const stroke of one.strokes) path(context, stroke);
    }
    context.globalAlpha = 1;
    if (drag?.kind === "box") box(context, spanned(drag), thin);
    if (drag?.kind === "stroke") path(context, drag.stroke);
  }

  function cross(context, { x, y, positive }, size, thin) {
    for (const [colour, width] of [["#000", 3 * thin], [positive ? "#fff" : "#ff5a4d", 1.6 * thin]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.arc(x, y, size, 0, 2 * Math.PI);
      context.moveTo(x - 0.6 * size, y);
      context.lineTo(x + 0.6 * size, y);
      if (positive) {
        context.moveTo(x, y - 0.6 * size);
        context.lineTo(x, y + 0.6 * size);
      }
      context.stroke();
    }
  }

  function box(context, [x0, y0, x1, y1], thin) {
    context.lineWidth = 1.5 * thin;
    context.strokeStyle = "#fff";
    context.setLineDash([4 * thin, 3 * thin]);
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    context.setLineDash([]);
  }

  function path(context, stroke) {
    context.strokeStyle = stroke.positive ? "rgb(255 255 255 / 35%)" : "rgb(255 90 77 / 40%)";
    context.lineWidth = 2 * stroke.radius_px;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    const [start, ...rest] = stroke.path;
    context.moveTo(...start);
    for (const corner of rest.length ? rest : [[start[0] + 0.01, start[1]]]) context.lineTo(...corner);
    context.stroke();
  }

  const spanned = ({ from, to }) => [
    Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1]),
  ];

  // ---- the panel ------------------------------------------------------------------------------------------------

  function make(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function objectRow({ id, name }) {
    const isAutomatic = id < video.automatic.length && prompts.base === "automatic";
    const joined = prompts.merge.find((ids) => ids.slice(1).includes(id));
    const now = prompts.background.includes(id) ? "background" : joined ? `into ${joined[0]}` : "";
    const others = prompts.objects.filter((one) => one.id !== id && one.id < video.automatic.length);
    const choices = isAutomatic
      ? [["", "keep"], ["background", "make background"], ...others.map((o) => [`into ${o.id}`, `merge into ${o.name}`])]
      : [["", "keep"], ["remove", "remove"]];
    const options = choices.map(([value, text]) => make("option", { value, textContent: text, selected: value === now }));
    const select = make("select", { title: "Merge, or make part of the background" }, ...options);
    select.addEventListener("change", () => assign(id, select.value));
    const field = make("input", { value: name, title: "Name" });
    field.addEventListener("change", () => rename(id, field.value));
    const chip = make("span", { className: "chip" });
    chip.style.background = `rgb(${video.palette[id]})`;
    const row = make("li", { className: `${id === selected ? "selected" : ""} ${now ? "gone" : ""}` }, chip, field, select);
    row.dataset.object = id;
    row.addEventListener("pointerdown", () => choose(id));
    return row;
  }

  function choose(id) {
    selected = id;
    for (const row of element("objects").children) row.classList.toggle("selected", Number(row.dataset.object) === id);
    drawMarks();
  }

  function render() {
    element("objects").replaceChildren(...prompts.objects.map(objectRow));
    renderSteps();
    element("base").value = prompts.base;
    const last = Math.max(1, video.frames - 1);
    const frames = [...new Set(prompts.prompts.map((one) => one.frame))];
    element("ticks").replaceChildren(...frames.map((t) => {
      const tick = make("i", {});
      tick.style.left = `${(100 * t) / last}%`;
      return tick;
    }));
    draw();
  }

  function renderSteps() {
    element("undo").disabled = !past.length;
    element("redo").disabled = !future.length;
  }

  async function follow() {
    const bar = element("progress");
    element("follow").disabled = true;
    bar.hidden = false;
    try {
      let run = await ask("api/clip", prompts);
      while (!run.ready && !run.error) {
        bar.max = run.total || 1;
        bar.value = run.done;
        await new Promise((resume) => setTimeout(resume, 250));
        run = await ask("api/clip");
      }
      if (run.error) throw new Error(run.error);
      say("Step through the frames to check. Marks in other frames correct it.");
      await refreshMasks();
    } catch (error) {
      say(error.message, true);
    } finally {
      bar.hidden = true;
      element("follow").disabled = false;
    }
  }

  async function save() {
    const sent = prompts;
    try {
      const { saved } = await ask("api/save", sent);
      stored = sent;
      say(`Saved. Go on with: osn segment --prompts ${saved}`);
    } catch (error) {
      say(error.message, true);
    }
  }

  // ---- the pointer and the keyboard -----------------------------------------------------------------------------

  const tool = () => document.querySelector("input[name=tool]:checked").value;

  function at(event) {
    const place = marks.getBoundingClientRect();
    const x = ((event.clientX - place.left) * video.width) / place.width;
    const y = ((event.clientY - place.top) * video.height) / place.height;
    return [Math.max(0, Math.min(video.width, x)), Math.max(0, Math.min(video.height, y))];
  }

  marks.addEventListener("contextmenu", (event) => event.preventDefault());
  marks.addEventListener("pointerdown", (event) => {
    const place = at(event);
    const positive = event.button === 0 && !event.altKey;
    marks.setPointerCapture(event.pointerId);
    if (tool() === "point") extend({ points: [{ x: place[0], y: place[1], positive }] });
    else if (tool() === "box") drag = { kind: "box", from: place, to: place };
    else {
      const radius_px = Number(element("radius").value);
      drag = { kind: "stroke", stroke: { path: [place], radius_px, positive: positive && tool() === "brush" } };
    }
    drawMarks();
  });
  marks.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (drag.kind === "box") drag.to = at(event);
    else drag.stroke.path.push(at(event));
    drawMarks();
  });
  marks.addEventListener("pointerup", () => {
    const done = drag;
    drag = null;
    if (done?.kind === "stroke") extend({ strokes: [done.stroke] });
    if (done?.kind === "box") {
      const [x0, y0, x1, y1] = spanned(done);
      if (x1 - x0 > 2 && y1 - y0 > 2) extend({ box: [x0, y0, x1, y1] });
    }
  });

  element("time").addEventListener("input", (event) => show(Number(event.target.value)));
  element("back").addEventListener("click", () => show(frame - 1));
  element("forth").addEventListener("click", () => show(frame + 1));
  element("add").addEventListener("click", addObject);
  element("undo").addEventListener("click", () => travel(past, future));
  element("redo").addEventListener("click", () => travel(future, past));
  element("clear").addEventListener("click", () => {
    if (here()) change({ ...prompts, prompts: prompts.prompts.filter((one) => one !== here()) });
  });
  element("opacity").addEventListener("input", draw);
  element("base").addEventListener("change", (event) => change({ ...prompts, base: event.target.value }));
  element("follow").addEventListener("click", follow);
  element("save").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input:not([type=range]):not([type=radio]), select")) return;
    if (event.key === "ArrowLeft" && event.target.id !== "time") show(frame - 1);
    if (event.key === "ArrowRight" && event.target.id !== "time") show(frame + 1);
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) travel(...(event.shiftKey ? [future, past] : [past, future]));
    if (/^[1-9]$/.test(event.key)) choose(prompts.objects[Number(event.key) - 1]?.id ?? selected);
  });

  async function start() {
    video = await ask("api/start");
    prompts = stored = video.prompts;
    selected = prompts.objects[0]?.id ?? null;
    for (const canvas of [picture, marks]) [canvas.width, canvas.height] = [video.width, video.height];
    // Marks are drawn finer than the frame's own pixels.
    const finer = Math.max(1, Math.ceil(1200 / video.width));
    [marks.width, marks.height] = [video.width * finer, video.height * finer];
    fit();
    element("time").max = video.frames - 1;
    render();
    await show(0);
  }

  /** Both canvases as large as the stage allows. */
  function fit() {
    const stage = element("stage");
    const scale = Math.min(stage.clientWidth / video.width, stage.clientHeight / video.height);
    for (const canvas of [picture, marks]) canvas.style.width = `${Math.floor(video.width * scale)}px`;
  }

  window.addEventListener("resize", () => video && fit());
  window.addEventListener("beforeunload", (event) => {
    if (prompts !== stored) event.preventDefault();
  });
  start().catch((error) => say(error.message, true));
})();
