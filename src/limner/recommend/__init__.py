"""From scores to a list: candidates, filters, ranking, and what each step did."""

from limner.recommend.rank import Recommendation, Recommendations, RecommendConfig, Step

__all__ = ["RecommendConfig", "Recommendation", "Recommendations", "Step"]
