// Asks one question of a scenario at a time, and answers at once. Without this script, each question is a
// <details> with its choices in the summary, and below them what is right or wrong with each.
for (const block of document.querySelectorAll(".questions")) {
  const questions = [...block.querySelectorAll("details")];
  const another = document.createElement("button");
  const shown = document.createElement("div");
  let asked = -1;

  const ask = () => {
    const others = questions.map((_, at) => at).filter((at) => at !== asked || questions.length === 1);
    asked = others[Math.floor(Math.random() * others.length)];
    const [summary, ...parts] = questions[asked].children;
    const claim = parts.pop();
    const answer = document.createElement("div");
    answer.setAttribute("role", "status");
    const texts = [...summary.children].map((part, at, all) => {
      const choice = at - (all.length - parts.length);
      if (choice < 0) return part.cloneNode(true);
      const button = document.createElement("button");
      button.type = "button";
      button.innerHTML = part.innerHTML;
      button.onclick = () => {
        button.className = parts[choice].className;
        answer.replaceChildren(parts[choice].cloneNode(true), claim.cloneNode(true));
      };
      return button;
    });
    shown.replaceChildren(...texts, answer);
  };

  shown.className = "asked";
  questions.forEach((question) => question.remove());
  another.type = "button";
  another.textContent = block.dataset.another;
  block.append(shown, another);
  another.hidden = questions.length < 2;
  another.onclick = ask;
  ask();
}
