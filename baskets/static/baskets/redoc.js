// Redoc shows the logo of its makers from their server. Images of other servers are hidden before the browser requests them.
const source = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, "src");
const isOurs = (address) => address.startsWith("data:") || new URL(address, location.href).origin === location.origin;
Object.defineProperty(HTMLImageElement.prototype, "src", {
  ...source,
  set(address) {
    if (isOurs(address)) source.set.call(this, address);
    else this.style.display = "none";
  },
});
HTMLImageElement.prototype.setAttribute = function setAttribute(name, value) {
  if (name !== "src" || isOurs(value)) Element.prototype.setAttribute.call(this, name, value);
  else this.style.display = "none";
};
