"""Reports: folders of runs in; one page, figures and tables out. Nothing here trains."""
