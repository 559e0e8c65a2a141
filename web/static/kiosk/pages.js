// Turns every long list of the page over, a page at a time.

import { Pager } from "./pager.js";

for (const root of document.querySelectorAll("[data-paged]")) new Pager(root);
