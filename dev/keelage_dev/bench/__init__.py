"""`make bench`: keelage and its peers between one provider and one load, in one run, as ratios."""
