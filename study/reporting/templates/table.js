// The table by any of its columns; pictures that grow; buttons that copy; paper, on which all is open.
for (const head of document.querySelectorAll("#trainings th")) head.querySelector("button").onclick = () => {
  const up = head.ariaSort !== "ascending", column = head.cellIndex, body = head.closest("table").tBodies[0];
  const key = row => {
    const cell = row.cells[column];
    return cell.dataset.key ?? cell.textContent.trim().replace("−", "-").replace(/(\d),(?=\d)/g, "$1");
  };
  const sign = up ? 1 : -1;
  for (const each of head.parentNode.cells) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  // Empty cells stay at the end either way
  body.append(...[...body.rows].sort((a, b) => {
    const x = key(a), y = key(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
  }));
};
for (const picture of document.querySelectorAll(".pair img")) picture.onclick = () => picture.parentNode.classList.toggle("large");
for (const button of document.querySelectorAll("button.copy")) button.onclick = async () => {
  const source = document.getElementById(button.dataset.of);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // where a page may not write to the clipboard, what is selected can be copied
    getSelection().selectAllChildren(source);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
};
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const each of opened) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of opened) each.open = false;
});
