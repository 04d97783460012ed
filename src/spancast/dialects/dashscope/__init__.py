"""The dialect of DashScope (Alibaba Cloud's Model Studio)."""
