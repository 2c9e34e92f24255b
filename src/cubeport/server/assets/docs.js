// Shows the API that the page names; asks nothing of any other host.
window.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("swagger");
  // Its style sheet has dark colours, for a class that nobody sets without its own top bar.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", follow);
  follow();
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
