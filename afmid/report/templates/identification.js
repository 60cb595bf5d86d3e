"use strict";
(() => {
  document.documentElement.classList.add("scripted"); // the style shows what needs scripts
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const visible = (element, on) => element.setAttribute("visibility", on ? "visible" : "hidden");
  const view = find("view");
  const known = (element) => element !== "X" && Object.hasOwn(data.colours, element);
  let shown = data.shown;

  stack();
  maps();
  structures();
  pointer();

  // One image of the stack, chosen by the slider or in the strip; one slider says it all to the keyboard.
  function stack() {
    const slider = find("height");
    if (!slider) return;
    const buttons = all("[data-image]");
    const show = () => {
      const button = buttons[slider.value];
      const { height, range, number } = button.dataset;
      find("layer-scan").setAttribute("href", button.querySelector("img").src);
      find("height-words").textContent = `z = ${height} Å · ${range}`;
      slider.setAttribute("aria-valuetext", `${height} ångström, image ${number}`);
      buttons.forEach((other) => other.setAttribute("aria-current", String(other === button)));
    };
    slider.addEventListener("input", show);
    buttons.forEach((button, i) => button.addEventListener("click", () => { slider.value = i; show(); }));
    show();
  }

  // A map over the scan, as strong as wanted.
  function maps() {
    const select = find("map");
    if (!select) return;
    const layer = find("layer-map");
    const buttons = all("[data-map]");
    const show = () => {
      const button = buttons[select.value === "" ? -1 : select.value];
      if (button) layer.setAttribute("href", button.querySelector("img").src);
      layer.setAttribute("opacity", find("strength").value);
      visible(layer, Boolean(button));
      find("strength-label").hidden = !button;
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    };
    select.addEventListener("change", show);
    find("strength").addEventListener("input", show);
    buttons.forEach((button) => button.addEventListener("click", () => {
      select.value = select.value === button.dataset.map ? "" : button.dataset.map;
      show();
    }));
    show();
  }

  // A structure in 3D and over the scan; true atoms beside it.
  function structures() {
    const select = find("structure");
    const truth = find("show-truth");
    if (truth) truth.addEventListener("change", () => visible(find("layer-truth"), truth.checked));
    if (!select) return;
    const checkbox = find("show-structure");
    const overlay = () => all(".structure").forEach((group) => {
      visible(group, checkbox.checked && group.dataset.structure === shown);
    });
    const legend = () => all("[data-element]").forEach((item) => {
      const { atoms } = data.structures.find((structure) => structure.key === shown);
      item.hidden = !atoms.some(([element]) => (known(element) ? element : "element not known") === item.dataset.element);
    });
    const space = openSpace();
    const show = (key) => {
      shown = select.value = key;
      overlay();
      legend();
      space(data.structures.find((structure) => structure.key === key));
    };
    checkbox.addEventListener("change", overlay);
    select.addEventListener("change", () => show(select.value));
    all("[data-show]").forEach((button) => button.addEventListener("click", () => {
      show(button.dataset.show);
      checkbox.checked = true;
      overlay();
      view.scrollIntoView({ block: "center" });
    }));
    show(shown);
  }

  // Return what draws a structure with 3Dmol; x to the right, y up, z towards the viewer, as the tip sees it.
  function openSpace() {
    const place = find("space");
    let viewer;
    try {
      viewer = $3Dmol.createViewer(place, { backgroundAlpha: 0, antialias: true });
    } catch (error) {
      viewer = null;
    }
    if (!viewer) {
      place.textContent = "This browser shows no 3D: WebGL is not there.";
      return () => {};
    }
    const words = find("space-words");
    const usual = words.textContent;
    const turned = (axis, angle) => {
      viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
      if (axis) viewer.rotate(angle, axis);
      viewer.zoomTo();
      viewer.zoom(Math.min(1, 0.85 * place.clientWidth / place.clientHeight)); // zoomTo looks at the height alone
      viewer.render();
    };
    find("from-above").addEventListener("click", () => turned());
    find("from-side").addEventListener("click", () => turned("x", -80));
    const keys = { ArrowLeft: ["y", -10], ArrowRight: ["y", 10], ArrowUp: ["x", -10], ArrowDown: ["x", 10] };
    place.addEventListener("keydown", (event) => {
      if (!keys[event.key]) return;
      viewer.rotate(keys[event.key][1], keys[event.key][0]);
      viewer.render();
      event.preventDefault();
    });
    return (structure) => {
      viewer.removeAllModels();
      const atoms = structure.atoms.map(([elem, x, y, z, text], serial) => (
        { elem: elem || "X", x, y, z, serial, text, bonds: [], bondOrder: [] }
      ));
      for (const [a, b, order] of structure.bonds) {
        for (const [from, to] of [[a, b], [b, a]]) {
          atoms[from].bonds.push(to);
          atoms[from].bondOrder.push(Math.round(order));
        }
      }
      viewer.addModel().addAtoms(atoms);
      const colour = (atom) => data.colours[known(atom.elem) ? atom.elem : "X"];
      viewer.setStyle({}, { stick: { radius: 0.11, colorfunc: colour }, sphere: { scale: 0.24, colorfunc: colour } });
      viewer.setHoverable({}, true, (atom) => { words.textContent = atom.text; }, () => { words.textContent = usual; });
      turned();
    };
  }

  // Where the pointer is, in Å; and the row of the atom under it.
  function pointer() {
    if (!view) return;
    const readout = find("readout");
    const usual = readout.textContent = "point at an atom: where it is, and how sure that is";
    const rows = all("#atoms [data-atom]");
    const rings = all('[data-structure="found"] .atom');
    const mark = (index) => [rows, rings].forEach((items) => items.forEach((item, i) => {
      item.classList.toggle("marked", i === index);
    }));
    view.addEventListener("pointermove", (event) => {
      const atom = event.target.closest(".atom");
      mark(atom && shown === "found" ? Number(atom.dataset.atom) : -1);
      if (atom) {
        readout.textContent = atom.querySelector("title").textContent;
        return;
      }
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(view.getScreenCTM().inverse());
      const x = Number(view.dataset.left) + at.x;
      const y = Number(view.dataset.top) - at.y;
      readout.textContent = `x ${x.toFixed(2)}, y ${y.toFixed(2)} Å`.replaceAll("-", "−");
    });
    view.addEventListener("pointerleave", () => {
      mark(-1);
      readout.textContent = usual;
    });
    rows.forEach((row, i) => {
      row.addEventListener("pointerenter", () => mark(i));
      row.addEventListener("pointerleave", () => mark(-1));
    });
  }
})();
