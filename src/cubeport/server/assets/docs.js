// Shows the API that the page names; asks nothing of any other host.
window.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("swagger");
  SwaggerUIBundle({
    url: place.dataset.openapi,
    domNode: place,
    deepLinking: true,
    validatorUrl: null,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    tryItOutEnabled: true,
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
    // The page has a main part of its own, and may have one only.
    onComplete: () => place.querySelector("main")?.setAttribute("role", "none"),
  });
});
