"""OpenAI's SDK with Azure's addresses: deployments and api-version."""

import openai
import openai_sdk


class Judge(openai_sdk.Judge):
    def connect(self, key):
        return openai.AzureOpenAI(
            azure_endpoint=f"{self.url}/azure", api_version="2024-10-21", api_key=key, max_retries=0, timeout=20
        )

    def models(self):
        client = openai.OpenAI(
            base_url=f"{self.url}/azure/openai/v1", api_key=self.client.api_key, max_retries=0, timeout=20
        )
        return sorted(model.id for model in client.models.list())
