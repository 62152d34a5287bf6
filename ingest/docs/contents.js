// The list of contents marks the section that is being read.

const READ_HERE = "-20% 0px -70% 0px"; // a band below the page's top

/** Follow the sections that the links point to. */
export function markContents(links) {
  const linkOf = new Map([...links].map((link) => [document.querySelector(link.hash), link]));
  const observer = new IntersectionObserver(
    (entries) => {
      const entered = entries.filter(({ isIntersecting }) => isIntersecting).at(-1);
      if (!entered) return;
      for (const [section, link] of linkOf) {
        if (section === entered.target) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    },
    { rootMargin: READ_HERE },
  );
  for (const section of linkOf.keys()) observer.observe(section);
}
