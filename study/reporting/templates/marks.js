// What a mark says: its setting, verdict, long run and MLflow run.
const tip = document.getElementById("tip");
const [TRIAL, SEED, OUTCOME, SETTING, EVIDENCE, LONG_RUN, RUN] = [0, 1, 2, 3, 4, 5, 6];
const repeats = study.trainings.some(each => each[SEED] !== study.trainings[0][SEED]);
const showing = new Map();  // row of the table: marks and lines that show it
const register = node => {
  const at = +node.dataset.at;
  showing.has(at) ? showing.get(at).push(node) : showing.set(at, [node]);
};
document.querySelectorAll("svg .marks use").forEach(register);
let lit = null;

function element(tag, text, kind = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = kind;
  return node;
}

function light(at) {
  for (const node of showing.get(lit) ?? []) node.classList.remove("lit");
  lit = at;
  for (const node of showing.get(at) ?? []) node.classList.add("lit");
}

function hush() {
  light(null);
  tip.className = "";
  tip.replaceChildren();
}

function say(at, x, y) {
  tip.classList.remove("stays");
  const training = study.trainings[at];
  tip.replaceChildren(element("b", `Trial ${training[TRIAL]}`), element("div", training[SETTING]));
  for (const each of study.trainings.filter(other => other[TRIAL] === training[TRIAL])) {
    const line = element("p", repeats ? `seed ${each[SEED]}: ` : "");
    line.append(element("b", each[OUTCOME], each[OUTCOME]), each[EVIDENCE] ? ` ${each[EVIDENCE]}` : "");
    const run = element("div", each[RUN] ? "MLflow run " : "not in MLflow");
    run.append(element("code", each[RUN]));
    tip.append(line, element("div", `long run ${each[LONG_RUN]}`), run);
  }
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 16 + width > innerWidth ? x - 16 - width : x + 16;
  tip.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(8, Math.min(y + 12, innerHeight - height - 8))}px`;
  light(at);
}

const pinned = () => tip.classList.contains("pinned");
for (const svg of document.querySelectorAll("svg:has(.marks use)")) {
  const marks = [...svg.querySelectorAll(".marks use")].map(use => ({
    at: +use.dataset.at, x: +use.getAttribute("x"), y: +use.getAttribute("y"),
  })).sort((a, b) => a.x - b.x || a.y - b.y);
  const onScreen = mark => new DOMPoint(mark.x, mark.y).matrixTransform(svg.getScreenCTM());
  const nearest = event => {
    let found = null, least = 14;
    for (const mark of marks) {
      const { x, y } = onScreen(mark), far = Math.hypot(x - event.clientX, y - event.clientY);
      // what a brush has put aside stays silent
      if (far < least && !showing.get(mark.at)[0].classList.contains("out")) [found, least] = [mark, far];
    }
    return found;
  };
  svg.addEventListener("pointermove", event => {
    if (pinned()) return;
    const mark = nearest(event);
    mark ? say(mark.at, event.clientX, event.clientY) : hush();
  });
  svg.addEventListener("pointerleave", () => pinned() || hush());
  svg.addEventListener("click", event => {
    const mark = nearest(event);
    hush();
    if (mark) {
      say(mark.at, event.clientX, event.clientY);
      tip.classList.add("pinned");
    }
  });
  svg.setAttribute("tabindex", "0");
  let place = -1;
  svg.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    place = (place + step + marks.length) % marks.length;
    const { x, y } = onScreen(marks[place]);
    say(marks[place].at, x, y);
    tip.classList.add("stays");
  });
  svg.addEventListener("blur", () => pinned() || hush());
}
addEventListener("keydown", event => event.key === "Escape" && hush());
// what the keyboard has asked for stays while the page still scrolls to the panel
addEventListener("scroll", () => pinned() || tip.classList.contains("stays") || hush(), { passive: true });
addEventListener("pointerdown", event => {
  if (pinned() && !tip.contains(event.target) && !event.target.closest("svg")) hush();
});
