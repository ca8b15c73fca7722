"use strict";
for (const browser of document.querySelectorAll(".browser")) {
  const days = JSON.parse(browser.querySelector("script").textContent);
  const form = browser.querySelector(".controls");
  const variable = browser.querySelector(".thumbnails").dataset.variable;

  const show = (panel, source, alt, caption) => {
    const figure = browser.querySelector(`[data-panel="${panel}"]`);
    if (!figure) return;
    figure.hidden = !source;
    if (!source) return;
    const image = figure.querySelector("img");
    image.src = source;
    image.alt = `${variable}: ${alt}`;
    if (caption) figure.querySelector("figcaption").textContent = caption;
  };

  const update = () => {
    const day = days[form.elements.day.value];
    const name = form.elements.output.selectedOptions[0].textContent;
    const output = day.outputs[name];
    const choice = form.elements.member;
    [...choice.options].forEach((option, i) => { option.disabled = i >= output.members.length; });
    if (choice.selectedIndex >= output.members.length) choice.selectedIndex = 0;
    const member = choice.selectedIndex;
    show("reference", day.reference, `reference, ${day.date}`);
    show("input", output.input, `input of ${name}, ${output.date}`);
    show("member", output.members[member], `member ${member + 1} of ${name}, ${output.date}`, `Member ${member + 1}`);
    show("mean", output.mean, `ensemble mean of ${name}, ${output.date}`);
    show("spread", output.spread, `spread of ${name}, ${output.date}`);
    browser.querySelector(".status").textContent =
      `${day.kind}: ${name} on ${output.date}, member ${member + 1}; reference on ${day.date}`;
  };

  form.hidden = false;
  form.addEventListener("change", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
