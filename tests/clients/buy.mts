// Buys with the types that openapi-typescript makes from the served document. `.ci/clients.py` compiles and runs it against the demo.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { env: Record<string, string | undefined> };

const client = createClient<paths>({
  baseUrl: process.env.BASKETS_URL ?? "",
  headers: { "X-API-Key": process.env.BASKETS_KEY ?? "" },
});
const userId = `typescript-${crypto.randomUUID()}`;
const user = { path: { userId } };

function check(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(what);
}

const found = await client.POST("/baskets/products/details", { body: ["demo-voucher", "unknown"] });
check(found.data?.data.products[0]?.price === 2500, "the price");
const empty = await client.GET("/baskets/users/{userId}", { params: user });
check(empty.data?.data.cart.length === 0, "the empty cart");

const item = (productId: string) => ({ path: { userId, productId } });
const placed = await client.POST("/baskets/users/{userId}/products/{productId}", {
  params: { ...item("demo-voucher"), header: { "Idempotency-Key": crypto.randomUUID() } },
  body: { count: 2 },
});
check(placed.data?.data.cart[0]?.count === 2, "the placed product");
// No member of the body is compulsory.
await client.POST("/baskets/users/{userId}/products/{productId}", { params: item("demo-soundtrack"), body: {} });
await client.PATCH("/baskets/users/{userId}/products/{productId}", { params: item("demo-voucher"), body: { count: 3 } });
const removed = await client.DELETE("/baskets/users/{userId}/products/{productId}", { params: item("demo-soundtrack") });
check(removed.data?.data.cart.length === 1, "the cart");

const refused = await client.POST("/baskets/users/{userId}/products/{productId}", { params: item("unknown") });
const reason: components["schemas"]["ErrorReason"] | undefined = refused.error?.error.details.reason;
check(reason === "product_unknown", "the reason");

const started = await client.POST("/baskets/users/{userId}/checkout/sessions", { params: user, body: { language: "de" } });
check(started.data?.data.fullPrice === 7500, "the price of the checkout");
const { orderNo } = started.data.data;
const active = await client.DELETE("/baskets/users/{userId}", { params: user });
check(active.error?.error.details.activeCheckout?.orderNo === orderNo, "the active checkout");
const finished = await client.POST("/baskets/users/{userId}/checkout/sessions/finish-active", {
  params: user,
  body: { ordered: true, orderNo },
});
check(finished.data?.data.checkout.length === 0, "the finished checkout");
const session = await client.GET("/baskets/users/{userId}/checkout/sessions/{orderNo}", { params: { path: { userId, orderNo } } });
check(session.data?.data.status === "ORDERED", "the status");

const query = { params: { query: { userId } } };
check((await client.GET("/baskets", query)).data?.data[0]?.userId === userId, "the list of baskets");
check((await client.GET("/baskets/checkout/sessions", query)).data?.data[0]?.orderNo === orderNo, "the list of checkouts");
const events = await client.GET("/baskets/events", query);
for (const event of events.data?.data ?? []) {
  // The kind narrows the type of the data.
  if (event.kind === "checkout_ordered") check(event.data.items[0]?.productId === "demo-voucher", "the ordered item");
}
check(events.data?.data.some((event) => event.kind === "checkout_ordered"), "the event of the order");

const guest = await client.POST("/baskets/guests", { body: { products: [{ productId: "demo-voucher" }] } });
check(guest.data, "the guest");
const guestPath = { path: { userId: guest.data.data.userId } };
const offer = await client.POST("/baskets/users/{userId}/transfer", { params: guestPath, body: { url: "https://shop.example.com/" } });
check(offer.data, "the transfer");
const taken = await client.POST("/baskets/guests", { params: { query: { jayToken: offer.data.data.jayToken } } });
check(taken.data?.data.userId === guest.data.data.userId, "the transferred basket");
const devices = await client.GET("/baskets/users/{userId}/devices", { params: guestPath });
const deviceId = devices.data?.data.devices[0]?.deviceId;
check(deviceId, "the device");
const revoked = await client.DELETE("/baskets/users/{userId}/devices/{deviceId}", {
  params: { path: { ...guestPath.path, deviceId } },
});
check(revoked.data?.data.devices[0]?.revokedAt, "the revoked device");
const created = await client.POST("/baskets/webhooks", { body: { url: "https://shop.example.com/hook", kinds: ["checkout_ordered"] } });
check(created.data, "the webhook");
check(created.data.data.secret.startsWith("whsec_"), "the secret of the webhook");
const webhook = { params: { path: { webhookId: created.data.data.webhookId } } };
const rotated = await client.POST("/baskets/webhooks/{webhookId}/rotate-secret", { ...webhook, body: { overlapSeconds: 60 } });
check(rotated.data?.data.previousSecretUntil, "the overlap");
const paused = await client.PATCH("/baskets/webhooks/{webhookId}", { ...webhook, body: { active: false } });
check(paused.data?.data.state === "paused", "the paused webhook");
const left = await client.DELETE("/baskets/webhooks/{webhookId}", webhook);
check(left.data?.data.webhooks.length === 0, "the deleted webhook");
console.log("The generated TypeScript client has bought, read the lists and transferred a guest.");
