"""From the text of a policy to who may reach whom."""
