-- The marketplace: templates that all tenants can read, and what each tenant installs and thinks of them.
-- phase: pre

CREATE TABLE marketplace_templates (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    name VARCHAR(255) NOT NULL UNIQUE,
    description TEXT NOT NULL,
    category VARCHAR(100) NOT NULL,
    definition JSONB NOT NULL,
    tags TEXT[] DEFAULT '{}',
    author_id VARCHAR(255) NOT NULL,
    author_name VARCHAR(255) NOT NULL,
    version VARCHAR(50) NOT NULL,
    download_count BIGINT DEFAULT 0,
    average_rating DECIMAL(3,2) DEFAULT 0.0,
    total_ratings INTEGER DEFAULT 0,
    is_verified BOOLEAN DEFAULT FALSE,
    source_tenant_id UUID REFERENCES tenants(id) ON DELETE SET NULL,
    source_template_id UUID,
    published_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT valid_rating CHECK (average_rating >= 0 AND average_rating <= 5)
);

CREATE INDEX idx_marketplace_templates_category ON marketplace_templates(category);
CREATE INDEX idx_marketplace_templates_download_count ON marketplace_templates(download_count DESC);
CREATE INDEX idx_marketplace_templates_rating ON marketplace_templates(average_rating DESC);
CREATE INDEX idx_marketplace_templates_tags ON marketplace_templates USING GIN(tags);

CREATE TABLE marketplace_template_versions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    template_id UUID NOT NULL REFERENCES marketplace_templates(id) ON DELETE CASCADE,
    version VARCHAR(50) NOT NULL,
    definition JSONB NOT NULL,
    change_notes TEXT,
    created_by VARCHAR(255) NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT unique_marketplace_template_version UNIQUE (template_id, version)
);

CREATE TABLE marketplace_installations (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    template_id UUID NOT NULL REFERENCES marketplace_templates(id) ON DELETE CASCADE,
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    user_id VARCHAR(255) NOT NULL,
    workflow_id UUID NOT NULL,
    installed_version VARCHAR(50) NOT NULL,
    installed_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT unique_tenant_template UNIQUE (tenant_id, template_id, workflow_id),
    CONSTRAINT marketplace_installations_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id)
        REFERENCES workflows(tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX idx_marketplace_installations_template ON marketplace_installations(template_id);
CREATE INDEX idx_marketplace_installations_tenant ON marketplace_installations(tenant_id);

CREATE TABLE marketplace_reviews (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    template_id UUID NOT NULL REFERENCES marketplace_templates(id) ON DELETE CASCADE,
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    user_id VARCHAR(255) NOT NULL,
    user_name VARCHAR(255) NOT NULL,
    rating INTEGER NOT NULL CHECK (rating >= 1 AND rating <= 5),
    comment TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT unique_user_template_review UNIQUE (tenant_id, user_id, template_id)
);

CREATE INDEX idx_marketplace_reviews_template ON marketplace_reviews(template_id);
CREATE INDEX idx_marketplace_reviews_tenant_user ON marketplace_reviews(tenant_id, user_id);

SELECT gorax_protect('marketplace_templates', p_worker => false, p_key => 'source_tenant_id');
CREATE POLICY public_marketplace ON marketplace_templates FOR SELECT TO gorax_app, gorax_readonly USING (true);
SELECT gorax_protect('marketplace_template_versions', p_worker => false, p_key => NULL);
CREATE POLICY public_marketplace ON marketplace_template_versions FOR SELECT TO gorax_app, gorax_readonly USING (true);
CREATE POLICY publisher_marketplace_versions ON marketplace_template_versions FOR INSERT TO gorax_app
    WITH CHECK (EXISTS (
        SELECT FROM marketplace_templates t
        WHERE t.id = template_id
          AND t.source_tenant_id = NULLIF(current_setting('app.current_tenant_id', true), '')::uuid));
SELECT gorax_protect('marketplace_installations', p_worker => false);
SELECT gorax_protect('marketplace_reviews', p_worker => false);

-- Verification and the counts that others' acts change are not the publisher's to write.
GRANT SELECT, DELETE,
      INSERT (id, name, description, category, definition, tags, author_id, author_name, version, source_tenant_id,
              source_template_id),
      UPDATE (name, description, category, definition, tags, author_name, version, updated_at)
    ON marketplace_templates TO gorax_app;
GRANT SELECT, INSERT ON marketplace_template_versions TO gorax_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON marketplace_installations, marketplace_reviews TO gorax_app;
GRANT SELECT ON marketplace_templates, marketplace_template_versions, marketplace_installations, marketplace_reviews
    TO gorax_readonly;
