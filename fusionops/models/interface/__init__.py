"""What the recommenders share: requests, histories, lists and the public interface."""
