addEventListener("hashchange", () => {
  const row = document.getElementById(location.hash.slice(1));
  row?.closest("details")?.setAttribute("open", "");
  row?.scrollIntoView({ block: "center" });
});
