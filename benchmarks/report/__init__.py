"""One report of a run: records → rows → tables and charts → page."""
