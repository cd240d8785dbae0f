"use strict";
(() => {
  const words = JSON.parse(document.getElementById("words").textContent);
  const make = (parent, tag, className = "", text = "") => {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    parent.append(element);
    return element;
  };

  // A tab stop, with a name, where something is too wide; and only there.
  const mark = (pre) => {
    const isTooWide = pre.scrollWidth > pre.clientWidth;
    const caption = pre.closest("figure, details").querySelector("figcaption, summary");
    const marks = { tabindex: "0", role: "region", "aria-label": caption.textContent.trim() };
    for (const [name, value] of Object.entries(marks)) {
      if (isTooWide) pre.setAttribute(name, value);
      else pre.removeAttribute(name);
    }
  };
  const sizes = new ResizeObserver((entries) => entries.forEach((entry) => mark(entry.target)));
  document.querySelectorAll("pre").forEach((pre) => sizes.observe(pre));

  // Builds the slider of a run, when it is opened first.
  const build = (slider, data) => {
    const { lines, frames } = JSON.parse(data.textContent);
    const snapshots = data.parentElement.querySelectorAll(":scope > .snapshot pre");
    const controls = make(slider, "div", "controls");
    const previous = make(controls, "button", "", "◀");
    const range = make(controls, "input");
    const next = make(controls, "button", "", "▶");
    const now = make(slider, "p", "now");
    now.setAttribute("aria-live", "polite");
    const part = (parent, tag, source, title) => {
      const figure = make(parent, "figure");
      const caption = make(figure, "figcaption");
      make(caption, "span", "source", words.sources[source]);
      const name = make(caption, "strong", "", title);
      return [make(figure, tag, tag === "pre" ? "ps" : "printed"), name];
    };
    const both = make(slider, "div", "both");
    const [tree] = part(both, "pre", 1, words.tree);
    const [printed] = part(both, "ul", 0, words.printed);
    const [ps, psName] = part(slider, "pre", 2, words.none);
    const rows = Math.max(...frames.map((frame) => frame[3].length));
    tree.style.minHeight = `calc(${rows} * 1.55em + 24px)`;
    sizes.observe(tree);
    sizes.observe(ps);

    const show = () => {
      const at = range.valueAsNumber;
      const [t, source, line, drawn] = frames[at];
      const time = `${t.toFixed(3)} s`;
      previous.disabled = at === 0;
      next.disabled = at === frames.length - 1;
      now.replaceChildren();
      make(now, "strong", "", time);
      make(now, "span", "source", words.sources[source]);
      make(now, "span", "", line);
      make(now, "span", "faint", `${words.event} ${at + 1}/${frames.length}`);
      range.setAttribute("aria-valuetext", `${time}, ${words.sources[source]}: ${line}`);

      const before = at === 0 ? drawn : frames[at - 1][3];
      tree.replaceChildren();
      for (const number of drawn) {
        const row = lines[number];
        const changed = before.includes(number) ? "" : " changed";
        make(tree, "span", (row.startsWith("Z") ? "marked" : "") + changed, row);
        tree.append("\n");
      }
      const past = frames.slice(0, at + 1);
      const output = past.filter((frame) => frame[1] === 0);
      printed.replaceChildren();
      for (const [when, , text] of output) {
        const item = make(printed, "li");
        make(item, "span", "faint", `${when.toFixed(3)} s `);
        make(item, "code", "", text);
      }
      if (output.length === 0) make(printed, "li", "faint", words.nothing);
      printed.scrollTop = printed.scrollHeight;
      const called = past.filter((frame) => frame[1] === 2);
      const last = called.at(-1);
      ps.hidden = !last;
      const fill = (text, time) => text.replace("{}", time.toFixed(3));
      psName.textContent = last ? fill(words.last, last[0]) : words.none;
      if (last && last[0] < t) psName.textContent += fill(words.ago, t - last[0]);
      ps.replaceChildren(...(snapshots[called.length - 1]?.cloneNode(true).childNodes ?? []));
      [tree, ps].forEach(mark);
    };
    Object.assign(range, { type: "range", min: 0, max: frames.length - 1, value: 0, oninput: show });
    range.setAttribute("aria-label", words.event);
    const step = (button, name, by) => {
      button.type = "button";
      button.setAttribute("aria-label", name);
      button.onclick = () => { range.value = range.valueAsNumber + by; show(); };
    };
    step(previous, words.previous, -1);
    step(next, words.next, 1);
    show();
  };

  document.querySelectorAll("script.run").forEach((data, index) => {
    const slider = document.createElement("details");
    slider.className = "slider";
    make(slider, "summary", "", words.step.replace("{}", data.dataset.name));
    slider.addEventListener("toggle", () => build(slider, data), { once: true });
    data.before(slider);
    slider.open = index === 0;
  });
})();
