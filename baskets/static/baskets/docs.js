// Starts Swagger UI on the service's own schema. No validator: it would send the schema to somebody else's server.
SwaggerUIBundle({
  url: "/schema",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
});
