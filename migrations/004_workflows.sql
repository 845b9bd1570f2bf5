-- Workflow definitions, their versions and the templates of a tenant.
-- phase: pre

CREATE TABLE workflows (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id UUID NOT NULL REFERENCES tenants(id) ON DELETE CASCADE,
    name VARCHAR(255) NOT NULL,
    description TEXT,
    definition JSONB NOT NULL,  -- the draft; what runs is in workflow_versions
    status VARCHAR(50) NOT NULL DEFAULT 'draft',
    version INTEGER NOT NULL DEFAULT 1,
    created_by UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    published_version INTEGER,             -- what starts use; NULL until the first publish
    revision INTEGER NOT NULL DEFAULT 1,   -- counts every change of the row, for If-Match
    CONSTRAINT unique_workflow_name_per_tenant UNIQUE (tenant_id, name),
    CONSTRAINT unique_workflow_per_tenant UNIQUE (tenant_id, id),
    CONSTRAINT chk_workflows_status CHECK (status IN ('draft', 'active', 'inactive', 'archived'))
);

CREATE INDEX idx_workflows_tenant_id ON workflows(tenant_id);
CREATE INDEX idx_workflows_status ON workflows(status);
CREATE INDEX idx_workflows_created_by ON workflows(created_by);
CREATE INDEX idx_workflows_tenant_status ON workflows(tenant_id, status);

CREATE TABLE workflow_versions (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id UUID NOT NULL,
    workflow_id UUID NOT NULL,
    version INTEGER NOT NULL,
    definition JSONB NOT NULL,
    created_by UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT unique_workflow_version UNIQUE (workflow_id, version),
    CONSTRAINT workflow_versions_workflow_id_fkey FOREIGN KEY (tenant_id, workflow_id)
        REFERENCES workflows(tenant_id, id) ON DELETE CASCADE
);

CREATE INDEX idx_workflow_versions_workflow_id ON workflow_versions(workflow_id);

CREATE TABLE workflow_templates (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(),
    tenant_id UUID REFERENCES tenants(id) ON DELETE CASCADE,
    name VARCHAR(255) NOT NULL,
    description TEXT,
    category VARCHAR(100),
    definition JSONB NOT NULL,
    tags TEXT[],
    is_public BOOLEAN NOT NULL DEFAULT FALSE,
    created_by UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CONSTRAINT unique_template_name_per_tenant UNIQUE NULLS NOT DISTINCT (tenant_id, name)
);

CREATE INDEX idx_templates_tenant ON workflow_templates(tenant_id);
CREATE INDEX idx_templates_category ON workflow_templates(category);
CREATE INDEX idx_templates_tags ON workflow_templates USING GIN(tags);
CREATE INDEX idx_templates_is_public ON workflow_templates(is_public);

SELECT gorax_protect('workflows', p_worker => true);
SELECT gorax_protect('workflow_versions', p_worker => true);
SELECT gorax_protect('workflow_templates', p_worker => false, p_name => 'templates');
-- Everybody may read a public template; the policy above keeps writing to its own tenant.
CREATE POLICY public_templates ON workflow_templates FOR SELECT TO gorax_app, gorax_readonly USING (is_public);

GRANT SELECT, INSERT, UPDATE, DELETE ON workflows, workflow_templates TO gorax_app;
GRANT SELECT, INSERT ON workflow_versions TO gorax_app;  -- a published version is never changed
GRANT SELECT ON workflows, workflow_versions TO gorax_worker;
GRANT SELECT ON workflows, workflow_versions, workflow_templates TO gorax_readonly;
