// Redoc shows the logo of its makers from their server. Images of other servers are dropped before the browser requests them.
HTMLImageElement.prototype.setAttribute = function setAttribute(name, value) {
  const isForeign = name === "src" && new URL(value, location.href).origin !== location.origin;
  if (!isForeign || value.startsWith("data:")) Element.prototype.setAttribute.call(this, name, value);
};
