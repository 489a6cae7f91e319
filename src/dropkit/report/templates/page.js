"use strict";
(function () {
  const drawings = JSON.parse(document.getElementById("drawings").textContent);
  const config = {
    responsive: true, displaylogo: false, displayModeBar: "hover", scrollZoom: false, typesetMath: false,
    // named, because what plotly adds of its own may send the figure to a server
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]], plotlyServerURL: "",
  };
  const plots = Array.from(document.querySelectorAll(".plot"));

  // figures come with transparent backgrounds and grey lines; text, labels and boxes take the page's colours
  function painted(plot, changes) {
    const layout = Object.assign(structuredClone(drawings[plot.id].layout), changes);
    const style = getComputedStyle(document.documentElement);
    const [ink, soft, panel] = ["--ink", "--soft", "--panel"].map((name) => style.getPropertyValue(name).trim());
    layout.font.color = ink;
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: panel, bordercolor: soft, font: { ...layout.hoverlabel.font, color: ink } };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink };
    for (const note of layout.annotations || []) if (note.name === "row") note.bgcolor = panel;
    return layout;
  }

  function draw(plot, changes) {
    return Plotly.react(plot, plot.data || drawings[plot.id].data, painted(plot, changes), config).then(() => {
      // an image holds nothing to focus: its numbers are in its label and in the tables
      for (const button of plot.querySelectorAll(".modebar-btn")) button.tabIndex = -1;
    });
  }

  Promise.all(plots.map((plot) => draw(plot))).then(() => { document.documentElement.dataset.drawn = String(plots.length); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach((plot) => draw(plot)));

  // an arm's button hides and shows its traces in every drawing of the same figure
  for (const button of document.querySelectorAll("button[data-arm]")) {
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      for (const plot of button.closest("figure").querySelectorAll(".plot")) {
        const traces = plot.data.map((trace, index) => (trace.meta === Number(button.dataset.arm) ? index : -1));
        Plotly.restyle(plot, { visible: on }, traces.filter((index) => index >= 0));
      }
    });
  }

  function select(text) {
    const range = document.createRange();
    range.selectNodeContents(text);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text.textContent);
      return "Copied";
    } catch (refused) {  // a page opened from a file may have no clipboard
      select(text);
      return document.execCommand("copy") ? "Copied" : "Selected";
    }
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    const label = button.firstChild;
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => {
      label.nodeValue = await copy(document.getElementById(button.dataset.copy));
      setTimeout(() => { label.nodeValue = "Copy"; }, 2000);
    });
  }

  // print: open what is folded, draw at the paper's width; then put all back
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = Array.from(document.querySelectorAll("details:not([open])"));
    for (const part of folded) part.open = true;
    document.body.classList.add("printing");
    for (const plot of plots) draw(plot, { width: plot.clientWidth });
  });
  addEventListener("afterprint", () => {
    document.body.classList.remove("printing");
    for (const part of folded) part.open = false;
    for (const plot of plots) draw(plot);
  });
})();
