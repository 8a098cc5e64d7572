// Parallel coordinates: a line a training, ranges on axes, and what lies in all of them.
const parallel = document.getElementById("parallel");
if (parallel) {
  const ORDER = ["failed", "unassessed", "collapsed", "diverged", "nonconvergent", "convergent"];
  const axes = study.axes, ranges = axes.map(() => null), lines = new Map();
  const trials = rows => new Set(rows.map(at => study.trainings[at][TRIAL])).size;
  const count = document.getElementById("count"), clear = document.getElementById("clear");
  const rows = [...document.querySelectorAll("#trainings tbody tr")];
  const least = axes.map(axis => axis.at.includes(null));
  let layout = null;

  function svg(tag, attributes, text = "") {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  }

  // Axes stand side by side where there is room for their names, else they lie below each other
  function lay() {
    const width = parallel.clientWidth, n = axes.length, lying = width < 125 * n;
    const unknown = least.some(Boolean) ? 26 : 0;
    return lying
      ? { width, height: 66 * n + 4, lying, from: 24, to: width - 24 - unknown, cross: i => 40 + 66 * i }
      : { width, height: 380 + unknown, lying, from: 364, to: 60, cross: i => 56 + (i * (width - 130)) / (n - 1) };
  }
  const along = share => layout.from + share * (layout.to - layout.from);
  const shareAt = position => Math.max(0, Math.min(1, (position - layout.from) / (layout.to - layout.from)));
  const beyond = () => layout.lying ? layout.to + 26 : layout.from + 26;
  const point = (i, share) => {
    const a = share === null ? beyond() : along(share), c = layout.cross(i);
    return layout.lying ? [a, c] : [c, a];
  };

  function valueAt(axis, share) {
    const { kind, low, high } = axis, mix = (a, b) => a + share * (b - a);
    if (kind === "words") return axis.ticks.reduce((a, b) => Math.abs(b[0] - share) < Math.abs(a[0] - share) ? b : a)[1];
    const value = kind === "log" ? Math.exp(mix(Math.log(low), Math.log(high)))
      : kind === "signed" ? Math.sinh(mix(Math.asinh(low), Math.asinh(high))) : mix(low, high);
    return String(+value.toPrecision(3));
  }
  const told = (axis, range) => range ? `${valueAt(axis, range[0])} to ${valueAt(axis, range[1])}` : "no range";

  function draw() {
    layout = lay();
    const { width, height, lying } = layout;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Parallel coordinates of all trainings" });
    const order = study.trainings.map((_, at) => at).sort((a, b) => ORDER.indexOf(study.trainings[a][OUTCOME]) - ORDER.indexOf(study.trainings[b][OUTCOME]));
    for (const at of order) {
      const path = "M" + axes.map((axis, i) => point(i, axis.at[at]).map(x => x.toFixed(1)).join(" ")).join("L");
      const line = svg("path", { d: path, class: `line ${study.trainings[at][OUTCOME]}`, "data-at": at });
      line.onpointermove = event => pinned() || say(at, event.clientX, event.clientY);
      line.onpointerleave = () => pinned() || hush();
      const known = showing.get(at) ?? [];
      showing.set(at, [...known.filter(node => node !== lines.get(at)), line]);
      lines.set(at, line);
      picture.append(line);
    }
    axes.forEach((axis, i) => {
      const [x1, y1] = point(i, 0), [x2, y2] = point(i, 1);
      picture.append(svg("line", { class: "axis", x1, y1, x2, y2 }));
      const head = lying ? { x: layout.from, y: y1 - 20 } : { x: x1, y: 16, "text-anchor": "middle" };
      const title = svg("text", { ...head, class: "sign" }, axis.sign);
      const what = [axis.name === axis.sign ? "" : axis.name, axis.unit].filter(Boolean).join(", ");
      if (lying) title.append(svg("tspan", { dx: 7, class: "what", "font-weight": 400 }, what));
      else axis.name === axis.sign || picture.append(svg("text", { ...head, y: 31, class: "what" }, axis.name));
      if (!lying && axis.unit) picture.append(svg("text", { ...head, y: 44, class: "what" }, axis.unit));
      picture.append(title);
      const ticks = least[i] ? [...axis.ticks, [null, "none"]] : axis.ticks;
      for (const [share, text] of ticks) {
        const [x, y] = point(i, share);
        const place = lying ? { x, y: y + 15, "text-anchor": "middle" } : { x: x + 7, y: y + 4 };
        picture.append(svg("text", { ...place, class: "tick" }, text));
      }
      picture.append(svg("rect", { class: "brush", "data-axis": i, visibility: "hidden" }));
      const [x, y] = [Math.min(x1, x2), Math.min(y1, y2)], long = Math.abs(layout.to - layout.from);
      const box = lying ? { x: x - 8, y: y - 14, width: long + 16, height: 28 } : { x: x - 14, y: y - 8, width: 28, height: long + 16 };
      const grip = svg("rect", { ...box, class: "grip", tabindex: 0, role: "slider", "data-axis": i, "aria-label": axis.name });
      grip.setAttribute("aria-orientation", lying ? "horizontal" : "vertical");
      watch(grip, i, picture);
      picture.append(grip);
    });
    parallel.replaceChildren(picture);
    update();
  }

  function watch(grip, i, picture) {
    let start = null, moved = null;
    const share = event => {
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
      return shareAt(layout.lying ? x : y);
    };
    grip.onpointerdown = event => {
      start = share(event);
      const range = ranges[i];
      moved = range && start > range[0] && start < range[1] ? [...range] : null;
      grip.setPointerCapture(event.pointerId);
    };
    grip.onpointermove = event => {
      if (start === null) return;
      const now = share(event);
      ranges[i] = moved ? shifted(moved, now - start) : [Math.min(start, now), Math.max(start, now)];
      update();
    };
    grip.onpointerup = event => {
      if (start !== null && !moved && Math.abs(share(event) - start) < 0.01) ranges[i] = null;
      start = null;
      update();
    };
    grip.ondblclick = () => { ranges[i] = null; update(); };
    grip.onkeydown = event => {
      const step = { ArrowUp: 0.05, ArrowRight: 0.05, ArrowDown: -0.05, ArrowLeft: -0.05 }[event.key];
      if (event.key === "Delete" || event.key === "Backspace") ranges[i] = null;
      else if (event.key === "Enter" || event.key === " ") ranges[i] ??= [0.25, 0.75];
      else if (step) {
        const range = ranges[i] ?? [0.25, 0.75];
        ranges[i] = event.shiftKey ? [range[0], Math.max(range[0], Math.min(1, range[1] + step))] : shifted(range, step);
      } else return;
      event.preventDefault();
      update();
    };
  }
  function shifted([low, high], by) {
    const kept = Math.max(-low, Math.min(1 - high, by));
    return [low + kept, high + kept];
  }

  function update() {
    const inside = at => ranges.every((range, i) => {
      const share = axes[i].at[at];
      return !range || (share !== null && share >= range[0] - 1e-4 && share <= range[1] + 1e-4);
    });
    const kept = [];
    study.trainings.forEach((_, at) => {
      const keep = inside(at);
      if (keep) kept.push(at);
      for (const node of showing.get(at) ?? []) node.classList.toggle("out", !keep);
    });
    for (const row of rows) row.hidden = !inside(+row.dataset.at);
    parallel.querySelectorAll(".grip").forEach((grip, i) => {
      const range = ranges[i], [x1, y1] = point(i, range ? range[0] : 0), [x2, y2] = point(i, range ? range[1] : 0);
      const box = layout.lying ? { x: x1, y: y1 - 8, width: x2 - x1, height: 16 } : { x: x1 - 8, y: y2, width: 16, height: y1 - y2 };
      const brush = parallel.querySelector(`.brush[data-axis="${i}"]`);
      for (const [name, value] of Object.entries(box)) brush.setAttribute(name, value);
      brush.setAttribute("visibility", range ? "visible" : "hidden");
      grip.setAttribute("aria-valuenow", range ? ((range[0] + range[1]) / 2).toFixed(2) : 0);
      grip.setAttribute("aria-valuemin", 0);
      grip.setAttribute("aria-valuemax", 1);
      grip.setAttribute("aria-valuetext", told(axes[i], range));
    });
    const all = study.trainings.map((_, at) => at), some = ranges.some(Boolean);
    const outcomes = ORDER.toReversed().map(name => [kept.filter(at => study.trainings[at][OUTCOME] === name).length, name]).filter(([n]) => n);
    const where = axes.map((axis, i) => ranges[i] && `${axis.sign} ${told(axis, ranges[i])}`).filter(Boolean).join(", ");
    const trainings = all.length > trials(all) ? ` in ${kept.length} of ${all.length} trainings` : "";
    count.textContent = `${trials(kept)} of ${trials(all)} configurations${trainings}${some ? ` with ${where}` : ""}`
      + `${outcomes.length ? ": " : ""}${outcomes.map(([n, name]) => `${n} ${name}`).join(", ")}.`;
    clear.disabled = !some;
  }

  clear.onclick = () => { ranges.fill(null); update(); };
  let drawn = 0;
  new ResizeObserver(() => {
    if (parallel.clientWidth === drawn) return;
    drawn = parallel.clientWidth;
    draw();
  }).observe(parallel);
}
