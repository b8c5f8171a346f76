"""Who holds each GPU: what schedulers gave, what runs there, and how both become holders."""
