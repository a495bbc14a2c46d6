"""The Feast repository: entity, sources, views and services, and the offline store beneath them."""
