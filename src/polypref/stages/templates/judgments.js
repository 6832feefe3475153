"use strict";
// Shows the comparisons that the filters let through, and keeps the filters in the page's address.
(() => {
  const bar = document.getElementById("filters");
  const count = document.getElementById("shown");
  const comparisons = [...document.querySelectorAll("details.comparison")].map((node) => ({
    node,
    data: node.dataset,
    judgments: [...node.querySelectorAll(".judgment")],
    text: null,
  }));
  const fields = [...bar.querySelectorAll("[name]")];
  const swapped = { win: "loss", loss: "win" };

  const apply = () => {
    const wanted = Object.fromEntries(fields.map((field) => [field.name, field.value]));
    const search = wanted.search.trim().toLowerCase();
    let shown = 0;
    for (const one of comparisons) {
      const { language, model, baseline } = one.data;
      const passes = (!wanted.language || wanted.language === language)
        && (!wanted.model || wanted.model === model || wanted.model === baseline)
        && (!wanted.judges || "split" in one.data);
      // What a win is for the baseline is a loss for the model.
      const turned = wanted.model === baseline && wanted.model !== model;
      let judged = 0;
      for (const judgment of one.judgments) {
        const { judge, outcome, orders } = judgment.dataset;
        const said = turned ? swapped[outcome] || outcome : outcome;
        const fits = (!wanted.judge || wanted.judge === judge)
          && (!wanted.outcome || wanted.outcome === said)
          && (!wanted.orders || wanted.orders === orders);
        judgment.hidden = !fits;
        judged += fits;
      }
      let found = passes && judged > 0;
      if (found && search) {
        one.text ??= one.node.textContent.toLowerCase();
        found = one.text.includes(search);
      }
      one.node.hidden = !found;
      shown += found;
    }
    count.textContent = `${shown} of ${comparisons.length} shown`;
    const kept = new URLSearchParams(fields.filter((f) => f.value).map((f) => [f.name, f.value])).toString();
    return kept;
  };

  const address = new URLSearchParams(location.hash.slice(1));
  for (const field of fields) {
    if (address.has(field.name)) {
      field.value = address.get(field.name);
      if (field.selectedIndex === -1) field.value = "";
    }
  }
  bar.hidden = false;
  apply();
  bar.addEventListener("input", () => history.replaceState(null, "", `#${apply()}`));
})();
