// The report's 3D view: draws the packed meshes of scene3d.py with WebGL. No libraries.
//
// Matrices are column-major arrays of 16, as WebGL takes them. World: y up. Cameras look along -z.
(() => {
  "use strict";

  const data = JSON.parse(document.getElementById("scene-data").textContent);
  const canvas = document.getElementById("scene-canvas");
  const help = document.getElementById("scene-help");
  const gl = canvas.getContext("webgl2", { antialias: true });
  if (!gl) {
    help.textContent = "This browser offers no WebGL 2, which the 3D view needs.";
    canvas.hidden = true;
    return;
  }

  // ---- vectors and matrices -------------------------------------------------------------------------------------

  const add = (a, b) => a.map((x, i) => x + b[i]);
  const subtract = (a, b) => a.map((x, i) => x - b[i]);
  const times = (a, s) => a.map((x) => x * s);
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => times(a, 1 / (Math.hypot(...a) || 1));

  function product(a, b) {
    const out = new Array(16).fill(0);
    for (let column = 0; column < 4; column++)
      for (let row = 0; row < 4; row++)
        for (let k = 0; k < 4; k++) out[4 * column + row] += a[4 * k + row] * b[4 * column + k];
    return out;
  }

  /** Columns of the rotation of a unit quaternion (x, y, z, w). */
  function axes([x, y, z, w]) {
    return [
      [1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)],
      [2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)],
      [2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)],
    ];
  }

  const similarity = (columns, scale, translation) => [
    ...times(columns[0], scale), 0, ...times(columns[1], scale), 0, ...times(columns[2], scale), 0, ...translation, 1,
  ];

  /** View matrix of a camera whose axes (x right, y up, z backwards) and centre are given in the world. */
  const viewMatrix = ([x, y, z], centre) => [
    x[0], y[0], z[0], 0, x[1], y[1], z[1], 0, x[2], y[2], z[2], 0, -dot(x, centre), -dot(y, centre), -dot(z, centre), 1,
  ];

  function perspective(yfov, aspect, near, far) {
    const f = 1 / Math.tan(yfov / 2);
    return [f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1, 0, 0, (2 * far * near) / (near - far), 0];
  }

  // ---- data -----------------------------------------------------------------------------------------------------

  function unpacked(text, Type) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return new Type(bytes.buffer);
  }

  const at = (array, frame, width) => Array.from(array.subarray(frame * width, (frame + 1) * width));

  const cameraCentre = unpacked(data.camera.translation, Float32Array);
  const cameraTurn = unpacked(data.camera.quaternion, Float32Array);
  const objects = data.objects.map((one) => ({
    shown: true,
    colour: one.colour.map((c) => c / 255),
    translation: unpacked(one.translation, Float32Array),
    quaternion: unpacked(one.quaternion, Float32Array),
    visible: unpacked(one.visible, Uint8Array),
    mesh: one.mesh,
  }));

  function placeOf(column, frame, scale) {
    const centre = at(cameraCentre, frame, 3);
    const offset = subtract(at(objects[column].translation, frame, 3), centre);
    return add(centre, times(offset, scale));
  }

  // ---- drawing --------------------------------------------------------------------------------------------------

  function program(vertex, fragment) {
    const made = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, `#version 300 es\nprecision highp float;\n${source}`);
      gl.compileShader(shader);
      gl.attachShader(made, shader);
    }
    gl.bindAttribLocation(made, 0, "position");
    gl.bindAttribLocation(made, 1, "colour");
    gl.linkProgram(made);
    if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
    return { made, uniform: (name) => gl.getUniformLocation(made, name) };
  }

  const surfaces = program(
    "in vec3 position; in vec3 colour; out vec3 seen; uniform mat4 clip; uniform vec3 low; uniform vec3 size;" +
      "void main() { seen = colour; gl_Position = clip * vec4(low + position * size, 1.0); }",
    "in vec3 seen; out vec4 pixel; void main() { pixel = vec4(seen, 1.0); }",
  );
  const lines = program(
    "in vec3 position; uniform mat4 clip; void main() { gl_Position = clip * vec4(position, 1.0); }",
    "out vec4 pixel; uniform vec3 ink; void main() { pixel = vec4(ink, 1.0); }",
  );

  function upload(target, values) {
    const buffer = gl.createBuffer();
    gl.bindBuffer(target, buffer);
    gl.bufferData(target, values, gl.STATIC_DRAW);
    return buffer;
  }

  for (const object of objects) {
    if (!object.mesh) continue;
    const { mesh } = object;
    const indices = unpacked(mesh.indices, mesh.wide ? Uint32Array : Uint16Array);
    object.array = gl.createVertexArray();
    gl.bindVertexArray(object.array);
    upload(gl.ARRAY_BUFFER, unpacked(mesh.positions, Uint16Array));
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.UNSIGNED_SHORT, true, 0, 0);
    upload(gl.ARRAY_BUFFER, unpacked(mesh.colours, Uint8Array));
    gl.enableVertexAttribArray(1);
    gl.vertexAttribPointer(1, 3, gl.UNSIGNED_BYTE, true, 0, 0);
    upload(gl.ELEMENT_ARRAY_BUFFER, indices);
    object.count = indices.length;
    object.type = mesh.wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT;
    gl.bindVertexArray(null);
  }
  const lineArray = gl.createVertexArray();
  const lineBuffer = gl.createBuffer();
  gl.bindVertexArray(lineArray);
  gl.bindBuffer(gl.ARRAY_BUFFER, lineBuffer);
  gl.enableVertexAttribArray(0);
  gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 0, 0);
  gl.bindVertexArray(null);

  const state = { frame: 0, sample: 0, playing: false, filmed: false, yaw: 0, pitch: 0, distance: 1, target: [0, 0, 0] };
  const scales = () => data.samples[state.sample].scale;

  /** Start beside the filming camera, looking at the objects. */
  function lookFromAside() {
    const frame = Math.floor(data.frames / 2);
    const centre = at(cameraCentre, frame, 3);
    const back = axes(at(cameraTurn, frame, 4))[2];
    const movers = objects.map((_, column) => column).filter((column) => column > 0 && objects[column].visible[frame]);
    const depths = movers.map((column) => -dot(back, subtract(placeOf(column, frame, scales()[column]), centre)));
    const depth = depths.length ? depths.reduce((a, b) => a + b) / depths.length : 1;
    state.target = subtract(centre, times(back, Math.max(depth, 1e-3)));
    state.distance = 1.15 * Math.max(depth, 1e-3);
    state.yaw = Math.atan2(back[0], back[2]) + 0.35;
    state.pitch = Math.asin(Math.max(-1, Math.min(1, back[1]))) + 0.12;
  }

  function orbitCamera() {
    const { yaw, pitch } = state;
    const back = [Math.sin(yaw) * Math.cos(pitch), Math.sin(pitch), Math.cos(yaw) * Math.cos(pitch)];
    const right = unit(cross([0, 1, 0], back));
    return { axes: [right, cross(back, right), back], centre: add(state.target, times(back, state.distance)) };
  }

  function filmedCamera() {
    return { axes: axes(at(cameraTurn, state.frame, 4)), centre: at(cameraCentre, state.frame, 3) };
  }

  function frustum() {
    const [right, up, back] = axes(at(cameraTurn, state.frame, 4));
    const centre = at(cameraCentre, state.frame, 3);
    const length = 0.12 * state.distance;
    const half = length * Math.tan(data.yfov / 2);
    const corner = (x, y) =>
      add(subtract(centre, times(back, length)), add(times(right, x * half * data.aspect), times(up, y * half)));
    const corners = [corner(-1, -1), corner(1, -1), corner(1, 1), corner(-1, 1)];
    return corners.flatMap((c, i) => [centre, c, c, corners[(i + 1) % 4]]);
  }

  function drawLines(points, mode, ink, clip) {
    gl.useProgram(lines.made);
    gl.uniformMatrix4fv(lines.uniform("clip"), false, clip);
    gl.uniform3fv(lines.uniform("ink"), ink);
    gl.bindVertexArray(lineArray);
    gl.bindBuffer(gl.ARRAY_BUFFER, lineBuffer);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(points.flat()), gl.DYNAMIC_DRAW);
    gl.drawArrays(mode, 0, points.length);
  }

  function draw() {
    const pixels = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.round(canvas.clientWidth * pixels);
    canvas.height = Math.round(canvas.clientHeight * pixels);
    gl.viewport(0, 0, canvas.width, canvas.height);
    const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    gl.clearColor(...(dark ? [0.09, 0.1, 0.11, 1] : [0.93, 0.94, 0.95, 1]));
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    // From behind, walls are left out, so that one looks into the room.
    gl.enable(gl.CULL_FACE);
    const camera = state.filmed ? filmedCamera() : orbitCamera();
    const lens = perspective(data.yfov, canvas.width / canvas.height, 0.02 * state.distance, 60 * state.distance);
    const clipFromWorld = product(lens, viewMatrix(camera.axes, camera.centre));
    gl.useProgram(surfaces.made);
    objects.forEach((object, column) => {
      if (!object.array || !object.shown || !object.visible[state.frame]) return;
      const scale = scales()[column];
      const turn = axes(at(object.quaternion, state.frame, 4));
      const world = similarity(turn, scale, placeOf(column, state.frame, scale));
      gl.uniformMatrix4fv(surfaces.uniform("clip"), false, product(clipFromWorld, world));
      gl.uniform3fv(surfaces.uniform("low"), object.mesh.low);
      gl.uniform3fv(surfaces.uniform("size"), object.mesh.size);
      gl.bindVertexArray(object.array);
      gl.drawElements(gl.TRIANGLES, object.count, object.type, 0);
    });
    if (!state.filmed) {
      const path = Array.from({ length: data.frames }, (_, t) => at(cameraCentre, t, 3));
      drawLines(path, gl.LINE_STRIP, [0.55, 0.55, 0.55], clipFromWorld);
      drawLines(frustum(), gl.LINES, dark ? [0.9, 0.9, 0.9] : [0.15, 0.15, 0.15], clipFromWorld);
    }
    gl.bindVertexArray(null);
  }

  // ---- controls -------------------------------------------------------------------------------------------------

  const time = document.getElementById("scene-time");
  const play = document.getElementById("scene-play");
  const filmed = document.getElementById("scene-filmed");

  function show(frame) {
    state.frame = frame;
    time.value = frame;
    document.getElementById("scene-frame").textContent = frame;
    draw();
  }

  let previous = 0;
  function advance(now) {
    if (!state.playing) return;
    if (now - previous >= 1000 / data.fps) {
      previous = now;
      show((state.frame + 1) % data.frames);
    }
    requestAnimationFrame(advance);
  }

  play.addEventListener("click", () => {
    state.playing = !state.playing;
    play.textContent = state.playing ? "Pause" : "Play";
    requestAnimationFrame(advance);
  });
  time.addEventListener("input", () => show(Number(time.value)));
  filmed.addEventListener("click", () => {
    state.filmed = !state.filmed;
    filmed.textContent = state.filmed ? "Free camera" : "Filmed camera";
    draw();
  });
  document.getElementById("scene-sample").addEventListener("change", (event) => {
    state.sample = Number(event.target.value);
    draw();
  });
  for (const box of document.querySelectorAll("input[data-column]"))
    box.addEventListener("change", () => {
      objects[Number(box.dataset.column)].shown = box.checked;
      draw();
    });

  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons || state.filmed) return;
    if (event.shiftKey || event.buttons === 2) {
      const { axes: [right, up] } = orbitCamera();
      const step = (state.distance * 2 * Math.tan(data.yfov / 2)) / canvas.clientHeight;
      state.target = add(state.target, add(times(right, -event.movementX * step), times(up, event.movementY * step)));
    } else {
      state.yaw -= 0.006 * event.movementX;
      state.pitch = Math.max(-1.5, Math.min(1.5, state.pitch + 0.006 * event.movementY));
    }
    draw();
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    state.distance *= Math.exp(0.001 * event.deltaY);
    draw();
  }, { passive: false });

  lookFromAside();
  new ResizeObserver(draw).observe(canvas);
  show(0);
})();
